"""The cache: found when nothing that counts has changed, made again when anything has, never used when damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ferrule import cache, cache_keys, disk
from ferrule.bundle import Bundle
from ferrule.cache import Store, find, keep, open_store, remembered
from ferrule.cli import main
from ferrule.errors import OutputError, UsageError
from ferrule.flow import deploy, lower
from ferrule.jobs import Event
from ferrule.recipe import Recipe, Step, load_recipe

NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Linear({width}, {width}) for _ in range({depth})]), (torch.ones(1, {width}),)
"""
PI, PIXEL = "raspberry-pi-5:onnx", "pixel-9:onnx"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A cache of the test's own, which its child processes use as well."""
    monkeypatch.setenv("FERRULE_CACHE", str(tmp_path / "cache"))
    found = open_store()
    assert found is not None and found.root == tmp_path / "cache"
    return found


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program saved by torch: a source whose content is its key."""
    path = tmp_path_factory.mktemp("saved") / "net.pt2"
    torch.manual_seed(0)
    torch.export.save(torch.export.export(nn.Sequential(nn.Linear(64, 64)).eval(), (torch.ones(1, 64),)), path)
    return path


def read_tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def entry_folders(store: Store, kind: str) -> list[Path]:
    return sorted((store.root / kind).glob("*"))


def command_line(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from ferrule.cli import main; main()", *map(str, arguments)]


def wait_for(happened: Callable[[], object], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.01)
    return False


def processes(text: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text in (folder / "cmdline").read_bytes().decode(errors="replace"):
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def test_an_entry_is_found_by_its_key_alone(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert find(store, "lowered", {"a": 1}) is None
    keep(store, "lowered", {"a": 1}, {"program/x": tmp_path / "file", "y": b""}, {"seconds": 2.5})
    entry = find(store, "lowered", {"a": 1})
    assert entry is not None and entry.data == {"seconds": 2.5}
    assert (entry.root / "program" / "x").read_bytes() == b"content" and entry.files["y"]["bytes"] == 0
    assert find(store, "lowered", {"a": 2}) is None and find(store, "pass", {"a": 1}) is None
    (tmp_path / "file").write_bytes(b"changed")
    assert (entry.root / "program" / "x").read_bytes() == b"content"
    keep(store, "lowered", {"a": 1}, {}, {"seconds": 9})  # the first one stays
    again = find(store, "lowered", {"a": 1})
    assert again is not None and again.data == {"seconds": 2.5}
    assert {p.name for p in store.root.iterdir()} == {"CACHEDIR.TAG", "lowered"}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: flip(root / "x"),
        lambda root: os.truncate(root / "x", 3),
        lambda root: (root / "x").unlink(),
        lambda root: (root / "x").write_bytes(b""),
        lambda root: flip(root / "entry.json"),
        lambda root: os.truncate(root / "entry.json", 20),
        lambda root: (root / "entry.json").write_text("[]"),
        lambda root: (root / "entry.json").write_text(""),
        lambda root: (root / "entry.json").unlink(),
    ],
)
def test_a_damaged_entry_is_dropped_and_can_be_made_again(damage: Callable[[Path], object], store: Store) -> None:
    keep(store, "pass", {"a": 1}, {"x": b"content"}, {})
    (folder,) = entry_folders(store, "pass")
    damage(folder)
    assert find(store, "pass", {"a": 1}) is None and not folder.exists()
    keep(store, "pass", {"a": 1}, {"x": b"content"}, {})
    assert find(store, "pass", {"a": 1}) is not None


def test_what_was_not_used_for_longest_goes_first_and_what_is_in_use_stays(store: Store) -> None:
    for index in range(5):
        keep(store, "pass", {"index": index}, {"x": bytes(100_000)}, {})
        made = find(store, "pass", {"index": index})
        assert made is not None
        os.utime(made.root / "entry.json", (index, index))
    del made
    in_use = find(store, "pass", {"index": 0})
    assert in_use is not None
    os.utime(in_use.root / "entry.json", (0, 0))
    cache.trim(replace(store, limit=310_000))
    left = [index for index in range(5) if find(store, "pass", {"index": index}) is not None]
    assert left == [0, 3, 4]
    cache.trim(replace(store, limit=0))
    assert entry_folders(store, "pass") == [in_use.root]
    assert cache.clear(store) == (0, 1)
    del in_use
    assert cache.clear(store) == (1, 0) and cache.usage(store)["pass"] == {"entries": 0, "bytes": 0}


def test_a_find_counts_as_use(store: Store) -> None:
    keep(store, "pass", {"a": 1}, {"x": b"content"}, {})
    (folder,) = entry_folders(store, "pass")
    os.utime(folder / "entry.json", (5, 5))
    find(store, "pass", {"a": 1})
    assert time.time() - (folder / "entry.json").stat().st_mtime < 60


def test_no_cache_where_it_is_off_or_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    for value in ("off", "0", str(tmp_path / "file" / "cache"), "/proc/ferrule"):
        monkeypatch.setenv("FERRULE_CACHE", value)
        assert open_store() is None
    monkeypatch.setenv("FERRULE_CACHE", str(tmp_path / "cache"))
    with cache.off():
        assert open_store() is None
    assert open_store() is not None


def test_the_folder_and_the_limit_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FERRULE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    for text, limit in (("", 10**10), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8), ("7", 7)):
        monkeypatch.setenv("FERRULE_CACHE_LIMIT", text)
        assert open_store() == Store(tmp_path / "ferrule", limit)
    for text in ("much", "-1GB", "5XB", "nan", "inf"):
        monkeypatch.setenv("FERRULE_CACHE_LIMIT", text)
        with pytest.raises(UsageError, match="a size is needed") as caught:
            open_store()
        assert caught.value.code == "FER-USE-002"


def change_file(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "bert"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text(f"content of {name}")
    return folder


def test_a_change_of_anything_that_counts_changes_the_key(
    store: Store, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.txt").write_text("a sentence")
    recipe = Recipe("mine", (Step("w4g32", {"skip": ["head*"]}),), 0.9)

    def key(recipe: Recipe = recipe, spec: str = f"hf:{checkpoint}", data: Path | None = tmp_path / "data.txt") -> str:
        return json.dumps(cache_keys.prepared_key(store, spec, recipe, data), sort_keys=True)

    first = key()
    assert first != "null" and key() == first
    # A recipe's name and bound change no weight.
    assert key(replace(recipe, name="yours", min_cosine=0.5)) == first
    others = [
        key(replace(recipe, steps=(Step("w4g32", {"skip": ["body*"]}),))),
        key(replace(recipe, steps=(Step("w8"),))),
        key(data=None),
    ]
    change_file(checkpoint / "model.safetensors")
    others.append(key())
    change_file(tmp_path / "data.txt")
    others.append(key())
    (checkpoint / "generation_config.json").write_text("{}")
    others.append(key())
    shutil.copytree(checkpoint, tmp_path / "elsewhere" / "bert")
    assert key(spec=f"hf:{tmp_path}/elsewhere/bert") == others[-1]
    shutil.copytree(checkpoint, tmp_path / "renamed")  # the bundle is named after the folder
    others.append(key(spec=f"hf:{tmp_path}/renamed"))
    monkeypatch.setattr(cache_keys, "versions", lambda: {"torch": "9.9"})
    others.append(key())
    monkeypatch.setattr(cache_keys, "source_digest", lambda without: "other code")
    others.append(key())
    assert len({first, *others}) == 1 + len(others)


def test_what_a_users_code_makes_has_no_key_beforehand(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET.format(width=8, depth=1))
    (checkpoint / "adapter_config.json").write_text("{}")
    fp = load_recipe("fp")
    for spec in (f"{tmp_path}/net.py:make", f"hf:{checkpoint}", "hf:/absent", "absent.pt2", "timm:resnet18@absent.pth"):
        assert cache_keys.prepared_key(store, spec, fp, None) is None
    assert cache_keys.prepared_key(store, "sample:minilm", fp, tmp_path / "absent.txt") is None
    for spec in ("timm:resnet18", "sample:minilm", "sample:vit"):
        assert cache_keys.prepared_key(store, spec, fp, None) is not None


def test_the_key_of_an_artefact() -> None:
    def key(content: str = "c", device: str = "pixel-9", target: str = "onnx", **how: bool) -> str:
        chosen = {"expand": False, "kernels": False} | how
        return json.dumps(cache_keys.lowered_key(content, device, target, **chosen), sort_keys=True)

    others = [key(content="d"), key(device="galaxy-s24"), key(target="litert"), key(expand=True), key(kernels=True)]
    assert key() == key() and len({key(), *others}) == 6


def test_keys_need_no_torch() -> None:
    code = (
        "import sys; from ferrule.cache import open_store; from ferrule.cache_keys import prepared_key;"
        "from ferrule.recipe import load_recipe; import ferrule.flow;"
        "assert prepared_key(open_store(), 'timm:resnet18', load_recipe('w8'), None);"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_digest_of_a_file_is_remembered_until_the_file_changes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"first")
    reads: list[Path] = []

    def counted(path: Path) -> dict[str, Any]:
        reads.append(path)
        return disk.file_facts(path)

    monkeypatch.setattr(cache_keys, "file_facts", counted)
    first = cache_keys.file_digest(store, path)
    assert cache_keys.file_digest(store, path) == first and len(reads) == 2  # so new that it may change unseen
    monkeypatch.setattr(cache_keys, "SETTLED", -1)
    assert [cache_keys.file_digest(store, path) for _ in range(3)] == [first] * 3 and len(reads) == 3
    times = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same time: the change itself has one
    assert cache_keys.file_digest(store, path) != first


def test_a_pass_is_computed_once_for_the_same_parts(store: Store) -> None:
    calls: list[int] = []
    torch.manual_seed(0)
    weight = torch.randn(4, 6)

    def compute() -> dict[str, Tensor]:
        calls.append(1)
        return {"codes": (weight * 10).to(torch.int8).t(), "scales": weight.half(), "one": torch.tensor(3)}

    def get(*parts: Any) -> dict[str, Tensor]:
        return remembered("palette", parts, compute)

    first = get(weight, 4, "mse", None)
    again = get(weight.clone().t().contiguous().t(), 4, "mse", None)
    assert len(calls) == 1 and set(first) == set(again)
    for name, value in first.items():
        assert torch.equal(value, again[name]) and value.dtype == again[name].dtype and again[name].is_contiguous()
    changed = [
        (weight + 1e-3, 4, "mse", None),
        (weight, 2, "mse", None),
        (weight, 4, "rtn", None),
        (weight, 4, "mse", torch.ones(6)),
        (weight.view(6, 4), 4, "mse", None),
        (weight.double(), 4, "mse", None),
        (weight, "4", "mse", None),
        (weight, 4.0, "mse", None),
        (weight, 4, "mse"),
    ]
    for count, parts in enumerate(changed, start=2):
        get(*parts)
        assert len(calls) == count
    for folder in entry_folders(store, "pass"):
        flip(folder / "tensors.safetensors")
    repaired = get(weight, 4, "mse", None)
    assert len(calls) == 2 + len(changed) and torch.equal(repaired["codes"], first["codes"])
    with cache.off():
        get(weight, 4, "mse", None)
    assert len(calls) == 3 + len(changed)


def test_a_full_disk_under_the_cache_is_no_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "copy_file", full)
    keep(store, "lowered", {}, {"x": Path(__file__)}, {})
    assert find(store, "lowered", {}) is None and {p.name for p in store.root.iterdir()} == {"CACHEDIR.TAG"}


def test_cache_size_and_clear(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ferrule", "cache", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
        return capsys.readouterr().out

    keep(store, "lowered", {}, {"x": bytes(3_000_000)}, {})
    told = json.loads(run("size", "--json"))
    assert told["folder"] == str(store.root) and told["limit_bytes"] == 10**10 and told["entries"] == 1
    assert told["kinds"]["lowered"]["entries"] == 1 and 3_000_000 < told["bytes"] < 3_001_000
    shown = run("size")
    assert str(store.root) in shown and "3.0" in shown and "lowered" in shown
    freed = json.loads(run("clear", "--json"))
    assert (freed["dropped"], freed["in_use"]) == (1, 0) and freed["freed_bytes"] == told["bytes"]
    assert json.loads(run("size", "--json"))["bytes"] == 0 and "0 entries dropped" in run("clear")
    monkeypatch.setenv("FERRULE_CACHE", "off")
    assert json.loads(run("size", "--json"))["folder"] is None and "off" in run("size") and "off" in run("clear")


def test_what_a_killed_build_left_is_swept_and_what_lives_is_not(tmp_path: Path) -> None:
    left, aside = tmp_path / ".ferrule-dead", tmp_path / ".ferrule-old-dead"
    for folder in (left / "job-0-0", aside / "net.ferrule", aside / "new.ferrule", tmp_path / "new.ferrule"):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.name if folder.parent == aside else "now")
    (tmp_path / ".ferrule-partial").write_text("half")
    os.utime(tmp_path / ".ferrule-partial", (1, 1))
    with disk.staging(tmp_path) as alive:
        disk.sweep(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {alive.name, "net.ferrule", "new.ferrule"}
    assert (tmp_path / "net.ferrule" / "file").read_text() == "net.ferrule"  # put back
    assert (tmp_path / "new.ferrule" / "file").read_text() == "now"  # replaced before the kill


@pytest.mark.slow
def test_a_second_build_starts_no_process_and_an_edited_recipe_makes_only_what_changed(
    store: Store, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = saved.parent / "copy" / saved.name
    model.parent.mkdir(exist_ok=True)
    shutil.copyfile(saved, model)
    events: list[Event] = []

    def build(out: str, devices: list[str], recipe: Any = "w8", **more: Any) -> list[bool]:
        events.clear()
        results = deploy(str(model), devices=devices, recipe=recipe, out=tmp_path / out, progress=events.append, **more)
        assert [(r.status, r.code) for r in results] == [("ok", None)] * len(results)
        assert all(r.seconds > 0 and r.parity is not None for r in results)
        return [r.cached for r in results]

    assert build("first", [PI]) == [False]
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a process was started"))
        before = read_tree(tmp_path / "first")
        assert build("first", [PI]) == [True]
        assert [e.phase for e in events] == ["waiting", "cached", "packing", "done"]
        assert build("second", [PI], archive=True) == [True]
        (tmp_path / "second" / "net.pt2-w8-raspberry-pi-5-onnx.ferrule.zip").unlink()
        assert read_tree(tmp_path / "first") == before == read_tree(tmp_path / "second")
        # The bound is held against what is kept; the artefact is the same.
        strict = Recipe("w8", load_recipe("w8").steps, 1.0)
        (refused,) = deploy(str(model), devices=[PI], recipe=strict, out=tmp_path / "strict")
        assert refused.code == "FER-PAR-001" and "asks for 1.0000" in str(refused.reason)
        gentle = Recipe("gentle", load_recipe("w8").steps, 0.5)
        assert build("gentle", [PI], gentle) == [True]
    # A pattern that names no layer makes the same graphs: these are found by their content.
    other = Recipe("w8", (Step("w8", {"skip": ["no-such-layer*"]}),), 0.99)
    assert build("pattern", [PI], other) == [True] and len(entry_folders(store, "prepared")) == 2
    assert build("more", [PI, PIXEL]) == [True, False]
    assert build("off", [PI], cache=False) == [False]
    assert read_tree(tmp_path / "off" / "net.pt2-w8-raspberry-pi-5-onnx.ferrule") == {
        name.partition("/")[2]: content for name, content in before.items() if "/" in name
    }
    # Damage of either kind: dropped, made again, the bytes are what they were.
    for kind, file in (("lowered", "program/forward.onnx"), ("prepared", "graphs/forward.pt2")):
        for folder in entry_folders(store, kind):
            flip(folder / file)
    assert build("again", [PI]) == [False] and read_tree(tmp_path / "again") != {}
    bundles = [tmp_path / out / "net.pt2-w8-raspberry-pi-5-onnx.ferrule" for out in ("first", "again")]
    assert read_tree(bundles[0]) == read_tree(bundles[1])
    # Another model under the same name.
    torch.export.save(torch.export.export(nn.Sequential(nn.Linear(64, 64)).eval(), (torch.ones(1, 64),)), model)
    assert build("other", [PI]) == [False]


@pytest.mark.slow
def test_lowering_by_hand_is_remembered_and_its_files_are_the_users(store: Store, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = nn.Sequential(nn.Linear(64, 8)), (torch.ones(1, 64),)
    first = lower(module, PI, tmp_path / "a", example_inputs=x)
    second = lower(module, PI, tmp_path / "b", example_inputs=x)
    assert second.root == tmp_path / "b" / "program" and replace(second, root=None) == replace(first, root=None)
    assert read_tree(tmp_path / "a" / "program") == read_tree(second.root)
    (second.root / second.main).write_bytes(b"edited")
    third = lower(module, PI, tmp_path / "c", example_inputs=x)
    assert third.root is not None and read_tree(third.root) == read_tree(tmp_path / "a" / "program")


@pytest.mark.slow
def test_a_killed_build_goes_on_where_it_was(store: Store, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    devices = [PI, PIXEL, "galaxy-s24:onnx"]
    deploy(str(saved), devices=[PI], recipe="fp", out=out)
    (bundle,) = out.glob("*.ferrule")
    before, entries = read_tree(bundle), len(entry_folders(store, "lowered"))
    arguments = [argument for device in devices for argument in ("--device", device)]
    command = command_line("build", saved, "--recipe", "w8", "-o", out, *arguments)
    build = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: len(entry_folders(store, "lowered")) > entries or build.poll() is not None)
    os.killpg(build.pid, signal.SIGKILL)
    assert build.wait() == -signal.SIGKILL
    assert wait_for(lambda: not processes(f"{out}/.ferrule-"), 20)  # the workers went with it
    assert read_tree(bundle) == before and all(Bundle.open(b).problems() == [] for b in out.glob("*.ferrule"))
    results = deploy(str(saved), devices=devices, recipe="w8", out=out)
    assert [r.status for r in results] == ["ok"] * 3 and any(r.cached for r in results)
    assert {p.name for p in out.iterdir()} == {"build.json", *(Path(str(r.bundle)).name for r in results), bundle.name}


@pytest.mark.slow
def test_two_builds_into_one_folder_at_once(store: Store, saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    builds = [
        subprocess.Popen(
            command_line("build", saved, "--recipe", "w8", "-o", out, "--device", PI, "--device", other, "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for other in (PIXEL, "galaxy-s24:onnx")
    ]
    told = [build.communicate(timeout=300) for build in builds]
    assert [build.returncode for build in builds] == [0, 0], told
    rows = json.loads((out / "build.json").read_text())["results"]
    assert {(r["device"], r["status"]) for r in rows} == {
        (name, "ok") for name in ("raspberry-pi-5", "pixel-9", "galaxy-s24")
    }
    assert {p.name for p in out.iterdir()} == {"build.json", *(r["bundle"] for r in rows)} and len(rows) == 3
    assert all(Bundle.open(out / r["bundle"]).problems() == [] for r in rows)


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder on a file system of its own, as small as the test says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("small_disk", "known"),
    # The weights are 4.2 MB: no room for the graphs; none for the artefact beside them; none for the bundle alone.
    [(2500, False), (6500, False), (4000, True)],
    indirect=["small_disk"],
    ids=["while preparing", "while lowering", "while packing"],
)
def test_a_full_disk_is_told_and_leaves_what_was_there(
    small_disk: Path, known: bool, store: Store, saved: Path, tmp_path: Path
) -> None:
    (old,) = deploy(str(saved), devices=[PI], recipe="w8", out=tmp_path / "old")
    shutil.copytree(tmp_path / "old", small_disk, dirs_exist_ok=True)
    before = read_tree(small_disk)
    large = tmp_path / "large.py"
    large.write_text(NET.format(width=512, depth=4))
    if known:
        exported = torch.export.export(nn.Sequential(nn.Linear(1024, 1024)).eval(), (torch.ones(1, 1024),))
        large = tmp_path / "large.pt2"
        torch.export.save(exported, large)
        assert deploy(str(large), devices=[PI], out=tmp_path / "elsewhere")[0].status == "ok"
    spec = str(large) if known else f"{large}:make"
    (result,) = deploy(spec, devices=[PI], out=small_disk)
    assert (result.status, result.code) == ("failed", "FER-OUT-003"), result
    assert str(small_disk) in str(result.reason) and "MB are needed" in str(result.reason) and result.hint
    after = read_tree(small_disk)
    rows = json.loads(after.pop("build.json"))["results"]
    before.pop("build.json")
    assert after == before and [r["status"] for r in rows] == ["ok", "failed"]
    assert Bundle.open(small_disk / Path(str(old.bundle)).name).problems() == []


def test_files_that_would_not_fit_are_refused_before_any_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("ferrule.disk.shutil.disk_usage", lambda path: usage._replace(free=5_000_000))
    disk.check_room(tmp_path, {"a": 4_000_000})
    with pytest.raises(OutputError, match=r"about 6\.0\d MB are needed there, 5\.00 MB are free") as caught:
        disk.check_room(tmp_path, {"a": 4_000_000, "b": 2_000_000})
    assert caught.value.code == "FER-OUT-003"
