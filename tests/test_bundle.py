"""Bundles: written whole or not at all, the same bytes every time, and every kind of tampering found."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import ferrule
from ferrule import bundle as bundle_module
from ferrule.bundle import Bundle, check, write_bundle, zip_bundle
from ferrule.converters import find_target
from ferrule.device_profiles import load
from ferrule.errors import BundleError, LoweringError, OutputError, ParityError, SourceError
from ferrule.flow import compress, pack
from ferrule.model import Model, as_model, capture
from ferrule.program import Dim, Program
from ferrule.proof import Proof, load_proof, prove, save_proof
from ferrule.runtime.session import Session

Edit = Callable[[Path], object]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 3))
    labels = tmp_path_factory.mktemp("assets") / "here.txt"
    labels.write_text("cat\ndog\nowl\n")
    given = as_model(module, (torch.randn(2, 16),), {"input": {0: Dim("rows", 1, 32)}})
    return compress(replace(given, assets={"labels.txt": labels}, notes=("made for a test",)), "w8")


@pytest.fixture(scope="module")
def program(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Program:
    folder = tmp_path_factory.mktemp("program")
    made: Program = find_target("onnx").lower()(capture(model), load("raspberry-pi-5"), folder, False)
    return replace(made, root=folder)


@pytest.fixture
def bundle(program: Program, model: Model, tmp_path: Path) -> Bundle:
    return pack(program, model, tmp_path / "out" / "net.ferrule", device="raspberry-pi-5", recipe="w8")


def read_tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def edit_manifest(root: Path, change: Callable[[dict[str, Any]], object], sign: bool = True) -> None:
    """Change a manifest as its author could (`sign`), or as an accident would."""
    path = root / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    if sign:
        body = {k: v for k, v in manifest.items() if k != "digest"}
        manifest["digest"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(manifest))


def refusal(path: Path) -> BundleError:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    return caught.value


def zip_of(folder: Path, entries: Mapping[str, bytes]) -> Path:
    path = folder / "made.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_a_bundle_holds_what_the_manifest_tells(bundle: Bundle, program: Program, model: Model) -> None:
    opened = Bundle.open(bundle.root)
    manifest = opened.manifest
    assert manifest == bundle.manifest and opened.problems() == []
    files = read_tree(bundle.root)
    assert set(files) == {*manifest["files"], "manifest.json"}
    assert {"assets/labels.txt", "delegation.json", "proof.safetensors", "program/forward.onnx"} <= set(files)
    for name, row in manifest["files"].items():
        assert row == {"sha256": hashlib.sha256(files[name]).hexdigest(), "bytes": len(files[name])}
    assert manifest["schema"] == 1 and manifest["ferrule"] == ferrule.__version__
    assert manifest["size_bytes"] == sum(len(d) for n, d in files.items() if n.startswith("program/"))
    assert manifest["model"]["source"] == "module:Sequential" and manifest["model"]["history"] == ["w8"]
    assert manifest["model"]["notes"] == ["made for a test"]
    assert manifest["model"]["policy"] == {"kind": "forward", "entry_point": "forward"}
    assert manifest["recipe"]["steps"] == [{"technique": "w8", "options": {}}]
    assert manifest["device"]["name"] == "raspberry-pi-5" and manifest["target"] == opened.target == "onnx"
    assert manifest["program"]["tools"]["onnxruntime"]
    assert opened.program == replace(program, root=bundle.root / "program")
    assert opened.entry_points["forward"].inputs[0].shape == ("rows", 16)
    assert len(opened.proof.inputs) == 1 and opened.proof.source == "example inputs"


def test_a_bundle_computes_what_the_model_computes(bundle: Bundle, model: Model) -> None:
    outcome = check(bundle.root)
    assert outcome.ok and outcome.problems == ()
    assert outcome.parity is not None and outcome.parity.cosine > 0.999 and outcome.parity.fidelity > 0.99999
    x = np.random.default_rng(0).normal(size=(7, 16)).astype(np.float32)
    with Session.open(bundle.root) as session:
        found = session.run({"input": x})["output"]
    with torch.no_grad():
        expected = model.entry_points["forward"].module(torch.from_numpy(x)).numpy()
    assert np.allclose(found, expected, atol=1e-4)


def test_the_same_input_gives_the_same_bytes(program: Program, model: Model, tmp_path: Path) -> None:
    trees, archives = [], []
    for name in ("one", "two"):
        made = pack(program, model, tmp_path / name / "net.ferrule", device="raspberry-pi-5", recipe="w8")
        trees.append(read_tree(made.root))
        os.utime(made.root / "manifest.json", (1, 1))
        archives.append(zip_bundle(made, tmp_path / f"{name}.zip").read_bytes())
    assert trees[0] == trees[1] and archives[0] == archives[1]


def test_a_zip_is_the_bundle_with_normal_times_and_rights(bundle: Bundle, tmp_path: Path) -> None:
    path = zip_bundle(bundle, tmp_path / "net.zip")
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        assert [i.filename for i in infos] == sorted(i.filename for i in infos)
        assert {i.date_time for i in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(i.external_attr >> 16) for i in infos} == {0o644}
        assert {i.filename: archive.read(i) for i in infos} == read_tree(bundle.root)
    assert check(path).ok


def test_an_opened_zip_lives_as_long_as_it_is_used(bundle: Bundle, tmp_path: Path) -> None:
    path = zip_bundle(bundle, tmp_path / "net.zip")
    opened = Bundle.open(path)
    root = opened.root
    assert opened.problems() == [] and root.is_dir()
    del opened
    gc.collect()
    assert not root.exists()
    session = Session.open(path)
    gc.collect()
    assert isinstance(session._files, Bundle) and session._files.root.is_dir()
    root = session._files.root
    assert session.run({"input": np.zeros((1, 16), np.float32)})["output"].shape == (1, 3)
    session.close()
    gc.collect()
    assert not root.exists()


def flip(name: str) -> Edit:
    def edit(root: Path) -> None:
        data = bytearray((root / name).read_bytes())
        data[len(data) // 2] ^= 1
        (root / name).write_bytes(data)

    return edit


def replace_by_link(root: Path) -> None:
    target = root.parent / "elsewhere"
    shutil.copy(root / "program/forward.onnx", target)
    (root / "program/forward.onnx").unlink()
    (root / "program/forward.onnx").symlink_to(target)


def replace_folder_by_link(root: Path) -> None:
    shutil.move(root / "program", root.parent / "moved")
    (root / "program").symlink_to(root.parent / "moved", target_is_directory=True)


def replace_by_pipe(root: Path) -> None:
    (root / "assets/labels.txt").unlink()
    os.mkfifo(root / "assets/labels.txt")


TAMPERED: list[tuple[str, Edit, str]] = [
    ("changed byte of the artefact", flip("program/forward.onnx"), "program/forward.onnx was changed"),
    ("changed byte of an asset", flip("assets/labels.txt"), "assets/labels.txt was changed"),
    ("changed proof", flip("proof.safetensors"), "proof.safetensors was changed"),
    ("missing", lambda root: (root / "assets/labels.txt").unlink(), "assets/labels.txt is missing"),
    ("missing folder", lambda root: shutil.rmtree(root / "program"), "program/forward.onnx is missing"),
    ("extra", lambda root: (root / "program/extra.so").write_text("x"), "program/extra.so is not in the manifest"),
    ("link", replace_by_link, "program/forward.onnx is a symbolic link"),
    ("linked folder", replace_folder_by_link, "program is not in the manifest"),
    ("extra dangling link", lambda root: (root / "x").symlink_to("/nowhere"), "x is not in the manifest"),
    ("pipe", replace_by_pipe, "assets/labels.txt is no regular file"),
]


@pytest.mark.parametrize(("edit", "told"), [t[1:] for t in TAMPERED], ids=[t[0] for t in TAMPERED])
def test_a_file_that_was_tampered_with_is_named(edit: Edit, told: str, bundle: Bundle) -> None:
    edit(bundle.root)
    outcome = check(bundle.root)
    assert not outcome.ok and outcome.parity is None and any(told in p for p in outcome.problems)
    for use in (Bundle.open(bundle.root).verify, lambda: Session.open(bundle.root)):
        with pytest.raises(BundleError) as caught:
            use()
        assert caught.value.code == "FER-BUN-003" and told in caught.value.message


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        node: Any = manifest
        for key in path[:-1]:
            node = node[key]
        if value is ...:
            del node[path[-1]]
        else:
            node[path[-1]] = value

    return change


ROW = {"sha256": "0" * 64, "bytes": 1}
MANIFESTS: list[tuple[str, Callable[[dict[str, Any]], object], bool, str, str]] = [
    ("edited", put("recipe", "min_cosine", value=-1), False, "FER-BUN-002", "digest"),
    ("unsigned", put("digest", value=...), False, "FER-BUN-002", "digest"),
    ("older schema", put("schema", value=0), True, "FER-BUN-002", "schema 0; this version of Ferrule reads schema 1"),
    ("no schema", put("schema", value=...), True, "FER-BUN-002", "schema None"),
    ("file above", put("files", "../x", value=ROW), True, "FER-BUN-004", "'../x'"),
    ("file at the root", put("files", "/etc/passwd", value=ROW), True, "FER-BUN-004", "'/etc/passwd'"),
    ("file above, within", put("files", "a/../../x", value=ROW), True, "FER-BUN-004", "'a/../../x'"),
    ("file with backslashes", put("files", "..\\x", value=ROW), True, "FER-BUN-004", "outside"),
    ("main above", put("program", "main", value="../../x.onnx"), True, "FER-BUN-004", "'../../x.onnx'"),
    ("main at the root", put("program", "main", value="/x.onnx"), True, "FER-BUN-004", "'/x.onnx'"),
    ("main that is no file of it", put("program", "main", value="other.onnx"), True, "FER-BUN-002", "amiss"),
    ("no files", put("files", value=...), True, "FER-BUN-002", "KeyError: 'files'"),
    ("files of another form", put("files", value=["a"]), True, "FER-BUN-002", "wrong form"),
    ("file without hash", put("files", "a", value={}), True, "FER-BUN-002", "'sha256'"),
    ("no proof", put("files", "proof.safetensors", value=...), True, "FER-BUN-002", "amiss"),
    ("unknown target", put("target", value="abacus"), True, "FER-BUN-002", "amiss"),
    ("no recipe", put("recipe", value=None), True, "FER-BUN-002", "wrong form"),
    ("no entry points", put("program", "entry_points", value=3), True, "FER-BUN-002", "wrong form"),
    ("bad entry point", put("program", "entry_points", "forward", "inputs", value=...), True, "FER-BUN-002", "inputs"),
]


@pytest.mark.parametrize(("change", "sign", "code", "told"), [m[1:] for m in MANIFESTS], ids=[m[0] for m in MANIFESTS])
def test_a_manifest_that_was_edited_is_refused(
    change: Callable[[dict[str, Any]], object], sign: bool, code: str, told: str, bundle: Bundle
) -> None:
    edit_manifest(bundle.root, change, sign)
    error = refusal(bundle.root)
    assert error.code == code and told in error.message
    outcome = check(bundle.root)
    assert not outcome.ok and code in outcome.problems[0]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null"])
def test_a_manifest_that_is_no_manifest(content: bytes, bundle: Bundle) -> None:
    (bundle.root / "manifest.json").write_bytes(content)
    assert refusal(bundle.root).code == "FER-BUN-002"


def test_what_is_no_bundle_is_told(tmp_path: Path) -> None:
    (tmp_path / "file.pte").write_text("x")
    for name, told in (("none", "does not exist"), ("none.zip", "does not exist"), ("", "no manifest.json")):
        error = refusal(tmp_path / name)
        assert error.code == "FER-BUN-001" and told in error.message
    assert "no manifest.json" in refusal(tmp_path / "file.pte").message


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..\\x", "a/.."])
def test_an_archive_never_writes_outside(name: str, bundle: Bundle, tmp_path: Path) -> None:
    error = refusal(zip_of(tmp_path, {**read_tree(bundle.root), name: b"x"}))
    assert error.code == "FER-BUN-005" and repr(name) in error.message


def test_an_archive_holds_no_links(bundle: Bundle, tmp_path: Path) -> None:
    path = zip_of(tmp_path, read_tree(bundle.root))
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    error = refusal(path)
    assert error.code == "FER-BUN-005" and "'link'" in error.message


def test_bombs_are_refused_before_anything_is_unpacked(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zip_of(tmp_path, {**read_tree(bundle.root), "zeros": bytes(bundle_module.FREE_BYTES)})
    error = refusal(path)
    assert error.code == "FER-BUN-005" and "that unpack to" in error.message
    # Little zeros are no bomb: an honest archive may compress well.
    small = zip_of(tmp_path, {**read_tree(bundle.root), "zeros": bytes(1 << 20)})
    assert "zeros is not in the manifest" in check(small).problems
    monkeypatch.setattr(bundle_module, "MOST_BYTES", 1 << 19)
    assert refusal(small).code == "FER-BUN-005"
    monkeypatch.undo()
    monkeypatch.setattr(bundle_module, "MOST_ENTRIES", 3)
    assert "entries" in refusal(small).message


def test_names_that_clash_where_case_is_ignored_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    error = refusal(zip_of(tmp_path, {**read_tree(bundle.root), "Manifest.JSON": b"{}"}))
    assert error.code == "FER-BUN-005" and "clash" in error.message


def test_archives_that_are_damaged(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path = zip_bundle(bundle, tmp_path / "net.zip")
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("program/forward.onnx")
        middle = info.header_offset + 60 + info.compress_size // 2
    for data in (
        b"",
        b"PK",
        whole[: len(whole) // 2],
        whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :],
    ):
        path.write_bytes(data)
        error = refusal(path)
        assert error.code == "FER-BUN-005" and str(path) in error.message
    assert list(scratch.iterdir()) == []


def test_a_failing_write_leaves_the_old_bundle_whole(
    bundle: Bundle, program: Program, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_tree(bundle.root)
    real = os.replace

    def fails_at_the_last_step(source: Any, target: Any) -> None:
        if Path(target) == bundle.root and not Path(source).parent.name.startswith(".ferrule-old-"):
            raise OSError(5, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", fails_at_the_last_step)
    monkeypatch.setattr("ferrule.disk._exchange", lambda left, right: False)  # a system without that call
    with pytest.raises(OutputError, match="Input/output error") as caught:
        pack(program, model, bundle.root, device="raspberry-pi-5", recipe="fp")
    assert caught.value.code == "FER-OUT-001"
    assert read_tree(bundle.root) == before and [p.name for p in bundle.root.parent.iterdir()] == ["net.ferrule"]


def test_the_very_same_bundle_stays_and_a_damaged_one_is_replaced(
    bundle: Bundle, program: Program, model: Model
) -> None:
    def pack_again() -> tuple[int, dict[str, bytes]]:
        pack(program, model, bundle.root, device="raspberry-pi-5", recipe="w8")
        return bundle.root.stat().st_ino, read_tree(bundle.root)

    first = bundle.root.stat().st_ino, read_tree(bundle.root)
    assert pack_again() == first
    (bundle.root / "program" / "forward.onnx").write_bytes(b"x")
    inode, files = pack_again()
    assert inode != first[0] and files == first[1]
    (bundle.root / "extra").write_text("x")
    assert pack_again()[1] == first[1]


def test_an_interrupted_write_leaves_nothing(
    program: Program, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(proof: Proof, path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_module, "save_proof", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(program, model, tmp_path / "net.ferrule", device="raspberry-pi-5")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_replaces_a_bundle_and_nothing_else(bundle: Bundle, program: Program, model: Model) -> None:
    facts = {"model": {}, "recipe": {"min_cosine": 0.9}, "device": {}}
    out = bundle.root.parent
    write_bundle(program, bundle.root, facts, {}, bundle.proof)
    assert set(read_tree(bundle.root)) & {"assets/labels.txt"} == set()
    (out / "empty").mkdir()
    assert write_bundle(program, out / "empty", facts, {}, bundle.proof).root.is_dir()
    (out / "mine").mkdir()
    (out / "mine" / "thesis.tex").write_text("years of work")
    (out / "file").write_text("mine")
    (out / "link").symlink_to("nowhere")
    for name in ("mine", "file", "link"):
        with pytest.raises(OutputError, match="is not a bundle") as caught:
            write_bundle(program, out / name, facts, {}, bundle.proof)
        assert caught.value.code == "FER-OUT-002"
    assert (out / "mine" / "thesis.tex").read_text() == "years of work" and (out / "file").read_text() == "mine"


@pytest.mark.parametrize("parent", ["file", "proc"])
def test_a_folder_that_cannot_be_written(parent: str, bundle: Bundle, program: Program, model: Model) -> None:
    (bundle.root.parent / "file").write_text("x")
    out = (bundle.root.parent / "file" if parent == "file" else Path("/proc")) / "net.ferrule"
    for write in (
        lambda: pack(program, model, out, device="raspberry-pi-5"),
        lambda: zip_bundle(bundle, out.with_suffix(".zip")),
    ):
        with pytest.raises(OutputError) as caught:
            write()
        assert caught.value.code == "FER-OUT-001" and "net" in caught.value.message


def test_assets_are_files_by_plain_names(bundle: Bundle, program: Program, model: Model, tmp_path: Path) -> None:
    here = model.assets["labels.txt"]
    for assets in ({"../x": here}, {"a/b": here}, {"": here}, {"labels.txt": tmp_path / "absent"}):
        with pytest.raises(SourceError) as caught:
            pack(program, replace(model, assets=assets), tmp_path / "net", device="raspberry-pi-5")
        assert caught.value.code == "FER-SRC-002" and repr(next(iter(assets))) in caught.value.message
    assert not (tmp_path / "net").exists()


class Answers:
    """A session that gives the answers it was made with."""

    class engine:
        name = "answers"

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = iter(rows)

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return next(self.rows)


def proven(reference: Any, found: Any) -> Any:
    row = {"y": np.asarray(reference, np.float32)}
    proof = Proof(({"x": np.zeros(1, np.float32)},), (row,), (row,), "test")
    session: Any = Answers([{"y": np.asarray(found, np.float32)}])
    return prove(session, proof)


def test_parity_is_what_it_says() -> None:
    parity = proven([3, 4], [3, 4])
    assert (parity.cosine, parity.max_abs, parity.engine) == (1, 0, "answers")
    assert proven([1, 0], [1, 1]).cosine == pytest.approx(0.707107) and proven([1, 0], [1, 1]).max_abs == 1
    assert proven([0, 0], [0, 0]).cosine == 1 and proven([0, 0], [0, 1]).cosine == 0
    # Infinite values count when they stand elsewhere, and are left out of the sums otherwise.
    inf = np.inf
    assert proven([1, -inf, 2], [1, -inf, 2]).cosine == 1
    assert proven([1, -inf, 2], [1, -inf, 2.25]).max_abs == 0.25
    assert proven([1, -inf, 2], [1, inf, 2]).cosine == -1 and proven([1, 5, 2], [1, inf, 2]).cosine == -1
    for found, code in (([np.nan, 1], "FER-PAR-002"), ([[1, 2]], "FER-PAR-003"), ([1, 2, 3], "FER-PAR-003")):
        with pytest.raises(ParityError) as caught:
            proven([1, 2], found)
        assert caught.value.code == code and caught.value.hint


def test_an_answer_of_another_size_is_refused_though_its_cosine_is_good() -> None:
    for factor in (0.5, 1.2, 3.0):
        with pytest.raises(ParityError, match=f"'y' of the artefact is {factor:g} times as large") as caught:
            proven([1, 2, 3], [factor, 2 * factor, 3 * factor])
        assert caught.value.code == "FER-PAR-007"
    assert proven([1, 2, 3], [1.1, 2.2, 3.3]).cosine == pytest.approx(1)
    assert proven([1e-9, 0], [2e-9, 0]).cosine == pytest.approx(1)


def test_an_engine_that_fails_to_run_is_told() -> None:
    row = {"x": np.zeros(1, np.float32)}
    session: Any = Answers([])
    session.run = lambda _: 1 // 0
    with pytest.raises(LoweringError, match="answers opens .* fails to run it on proof input 0") as caught:
        prove(session, Proof((row,), (row,), (row,), ""))
    assert caught.value.code == "FER-LOW-005" and "ZeroDivisionError" in caught.value.message


def test_a_proof_survives_its_file(tmp_path: Path) -> None:
    rows = tuple(
        {"a/b": np.full((2, 3), i, np.float32), "c": np.arange(i + 1), "scalar": np.array(i)} for i in range(12)
    )
    proof = Proof(rows, rows, rows[::-1], "numbers")
    save_proof(proof, tmp_path / "proof.safetensors")
    found = load_proof(tmp_path / "proof.safetensors")
    assert found.source == "numbers" and len(found.inputs) == 12
    for part in ("inputs", "reference", "compressed"):
        for left, right in zip(getattr(proof, part), getattr(found, part), strict=True):
            assert set(left) == set(right) and all(
                np.array_equal(left[k], right[k]) and left[k].shape == right[k].shape for k in left
            )
    assert len(proof.head().inputs) == 8
    large = tuple({"x": np.zeros(1 << 19, np.float32)} for _ in range(8))
    assert len(Proof(large, large, large, "").head().inputs) == 1


def test_a_bundle_under_its_own_bound_is_not_ok(bundle: Bundle) -> None:
    edit_manifest(bundle.root, put("recipe", "min_cosine", value=1.5))
    outcome = check(bundle.root)
    assert not outcome.ok and outcome.parity is not None and "under the recipe's bound 1.5" in outcome.problems[0]
