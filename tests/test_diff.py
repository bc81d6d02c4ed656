"""`ferrule diff` and `ferrule explore`: every difference is named, none is invented, exit codes as those of diff."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.bundle import Bundle, write_bundle, zip_bundle
from ferrule.cli import main
from ferrule.cli.explore import plan
from ferrule.compare import Line
from ferrule.difference import Difference, diff
from ferrule.errors import BundleError, TargetError, UsageError
from ferrule.program import OpRow, Parity, Program, Signature, StoredWeights, TensorSpec
from ferrule.proof import Proof
from ferrule.report.difference import describe_change, render_difference

PROGRAM = Program(
    target="onnx",
    main="model.onnx",
    entry_points={
        "forward": Signature((TensorSpec("x", "float32", (1, 3)),), (TensorSpec("y", "float32", (1, 2)),)),
    },
    delegation=(OpRow("MatMul", "cpu:mlas", "kernel", 9), OpRow("Add", "cpu:mlas", "kernel", 4)),
    weights=(StoredWeights("linear", 1000, 4000),),
    tools={"onnx": "1.23.4"},
    parity=Parity(0.99, 0.995, 0.1, 0.999, 3, "3 inputs", "onnxruntime"),
)
CHANGED = replace(
    PROGRAM,
    entry_points={
        "forward": Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),)),
    },
    delegation=(OpRow("MatMul", "cpu:mlas", "kernel", 8), OpRow("MatMulInteger", "cpu:mlas", "kernel", 1)),
    weights=(StoredWeights("linear", 1000, 1100),),
    notes=("Rounded otherwise.",),
    tools={"onnx": "1.24.0"},
    parity=Parity(0.97, 0.995, 0.3, 0.999, 3, "3 inputs", "onnxruntime"),
)


def add_bundle(folder: Path, program: Program = PROGRAM, size: int = 9000, recipe: str = "fp", **facts: Any) -> Path:
    """A bundle of an artefact of `size` bytes, without any toolkit."""
    root = folder.parent / f"program-{folder.name}-{recipe}"
    root.mkdir(parents=True, exist_ok=True)
    (root / program.main).write_bytes(b"\x07" * size)
    told = {
        "model": {"source": "net.py:make", "notes": []},
        "recipe": {"name": recipe, "min_cosine": 0.9, "steps": [] if recipe == "fp" else [{"technique": recipe}]},
        "device": {"name": "raspberry-pi-5", "title": "Raspberry Pi 5"},
        **facts,
    }
    arrays = {"y": np.ones((1, 2), np.float32)}
    proof = Proof(({"x": np.ones((1, 3), np.float32)},), (arrays,), (arrays,), "3 inputs")
    return write_bundle(replace(program, root=root), folder / f"net-{recipe}.ferrule", told, {}, proof).root


def changes(found: Difference) -> dict[tuple[str, str], Line]:
    (pair,) = found.pairs
    return {(line.section, line.name): line for line in pair.lines if line.changed}


def write_times(folder: Path, times: Mapping[str, float]) -> None:
    rows = {
        name: {
            "engine": "onnxruntime",
            "threads": 1,
            "runs": 30,
            "latency_ms": {"p10": 0.9 * p50, "p50": p50, "p90": 1.1 * p50, "p99": 2 * p50},
            "load_ms": 3.0,
            "peak_rss_mb": 50.0,
        }
        for name, p50 in times.items()
    }
    machine = {"cpu": "Test CPU", "cores": 2, "system": "Linux"}
    data = {"machine": machine, "command": "measure it", "results": rows}
    (folder / "measurements.json").write_text(json.dumps(data))


def test_a_bundle_is_the_same_as_its_copy_and_its_archive(tmp_path: Path) -> None:
    a, b = add_bundle(tmp_path / "a"), add_bundle(tmp_path / "b")
    archive = zip_bundle(Bundle.open(b), tmp_path / "b.ferrule.zip")
    for other in (a, b, archive):
        found = ferrule.diff(a, other)
        assert found.same and not changes(found) and len(found.pairs[0].lines) > 15


def test_every_difference_is_a_line(tmp_path: Path) -> None:
    a, b = add_bundle(tmp_path / "a"), add_bundle(tmp_path / "b", CHANGED, 6000, "w8")
    found = changes(diff(a, b))
    values = {key: (line.a, line.b) for key, line in found.items()}
    assert values["size", "whole artefact"] == (9000, 6000)
    assert values["size", "linear weights"] == (4000, 1100)
    assert values["entry points", "forward input 1"] == ("x float32 1 × 3", "x float32 1 × 4")
    assert values["units", "cpu:mlas"] == (13, 9)
    assert values["ops", "Add on cpu:mlas"] == (4, None)
    assert values["ops", "MatMulInteger on cpu:mlas"] == (None, 1)
    assert values["parity", "cosine, lowest"] == (0.99, 0.97)
    assert values["notes", "note"] == (None, "Rounded otherwise.")
    assert values["tools", "onnx"] == ("1.23.4", "1.24.0")
    assert values["target", "recipe"] == ("fp", "w8") and values["target", "techniques"] == ("none", "w8")
    assert ("parity", "cosine, mean") not in values and ("target", "device") not in values
    assert describe_change(found["size", "whole artefact"]) == "−0.003 MB (−33.3 %)"


def test_times_are_shown_and_never_decide(tmp_path: Path) -> None:
    a, b = add_bundle(tmp_path / "a"), add_bundle(tmp_path / "b")
    write_times(a.parent, {a.name: 10.0})
    write_times(b.parent, {b.name: 8.0})
    found = diff(a, b)
    line = changes(found)["host latency", "p50 of one run"]
    assert found.same and (line.a, line.b) == (10.0, 8.0) and describe_change(line) == "−2.00 ms (−20.0 %)"


def test_folders_are_compared_target_by_target(tmp_path: Path) -> None:
    for name, recipes in (("a", ("fp", "w8")), ("b", ("fp", "w4g32"))):
        for recipe in recipes:
            add_bundle(tmp_path / name, recipe=recipe)
    add_bundle(tmp_path / "b", recipe="w8a8", device={"name": "pixel-9", "title": "Pixel 9"})
    pairs = {
        pair.name: (pair.same, pair.a is None, pair.b is None) for pair in diff(tmp_path / "a", tmp_path / "b").pairs
    }
    assert pairs == {
        "raspberry-pi-5 · onnx · fp": (True, False, False),
        "raspberry-pi-5 · onnx · w8 → w4g32": (False, False, False),  # alone in their target on both sides
        "pixel-9 · onnx · w8a8": (False, True, False),
    }


def test_what_was_refused_and_is_built_now_differs(tmp_path: Path) -> None:
    row = {"device": "raspberry-pi-5", "target": "onnx", "recipe": "fp", "status": "refused", "code": "FER-LOW-002"}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "build.json").write_text(json.dumps({"results": [row]}))
    add_bundle(tmp_path / "b")
    found = changes(diff(tmp_path / "a", tmp_path / "b"))
    assert (found["target", "status"].a, found["target", "status"].b) == ("refused", "ok")
    assert found["target", "code"].a == "FER-LOW-002"


def test_trouble_is_a_coded_error(tmp_path: Path) -> None:
    a = add_bundle(tmp_path / "a")
    with pytest.raises(UsageError) as mixed:
        diff(a, a.parent)
    assert mixed.value.code == "FER-USE-003"
    with pytest.raises(BundleError) as absent:
        diff(a, tmp_path / "nothing")
    assert absent.value.code == "FER-BUN-001"
    b = add_bundle(tmp_path / "b")
    (b / "program/model.onnx").write_bytes(b"short")
    for left, right in ((a, b), (a.parent, b.parent)):
        with pytest.raises(BundleError) as damaged:
            diff(left, right)
        assert damaged.value.code == "FER-BUN-003"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the console script's function in this process: exit code, output, errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ferrule", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_the_command_exits_as_diff_does(tmp_path: Path, run: Any) -> None:
    a, b = add_bundle(tmp_path / "a"), add_bundle(tmp_path / "b", CHANGED, 6000, "w8")
    code, out, _ = run("diff", a, a)
    assert code == 0 and "the same" in out
    code, out, _ = run("diff", a, b)
    assert code == 1 and "−33.3 %" in out and "+ note: Rounded otherwise." in out and "\x1b" not in out
    code, out, err = run("diff", a, tmp_path / "nothing")
    assert code == 2 and not out and "FER-BUN-001" in err


def test_the_command_prints_json_and_writes_a_page(tmp_path: Path, run: Any) -> None:
    a, b = add_bundle(tmp_path / "a"), add_bundle(tmp_path / "b", CHANGED, 6000, "w8")
    code, out, _ = run("diff", a, b, "--json", "-o", tmp_path / "page.html")
    data = json.loads(out)
    assert code == 1 and data["same"] is False and data["page"] == str(tmp_path / "page.html")
    line = next(row for row in data["pairs"][0]["lines"] if row["name"] == "whole artefact")
    assert (line["a"], line["b"], line["unit"], line["changed"]) == (9000, 6000, "bytes", True)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == render_difference(diff(a, b)) and "Rounded otherwise." in page and "chart-size-1" in page
    assert "http:" not in page and "https:" not in page and "<script" not in page


def test_explore_names_what_is_missing(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferrule.cli.explore.find_spec", lambda name: None)  # whatever is installed here
    with pytest.raises(TargetError) as unreadable:
        plan(tmp_path / "model.mlpackage", 8080, True)
    assert unreadable.value.code == "FER-TGT-003" and ".tflite" in unreadable.value.message
    code, _, err = run("explore", add_bundle(tmp_path / "a"), "--no-browser")
    assert code == 2 and "FER-TGT-004" in err and "pip install ai-edge-model-explorer model-explorer-onnx" in err


def test_explore_serves_what_model_explorer_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model_explorer", "model_explorer_onnx"):
        (tmp_path / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    line = plan(tmp_path / "model.tflite", 9000, False)
    assert line[1:] == ["-m", "model_explorer", str(tmp_path / "model.tflite"), "--port", "9000"]
    line = plan(tmp_path / "model.onnx", 8080, True)
    assert line[-3:] == ["--extensions", "model_explorer_onnx", "--no_open_in_browser"]
