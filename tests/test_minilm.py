"""The main job on a real model: MiniLM under `w8a8` for five targets and `w4g32` for two, as a user would build it."""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ferrule
from ferrule.bundle import Bundle
from ferrule.demo.accuracy import TOKENS, embed_eager
from ferrule.program import StoredWeights

pytestmark = pytest.mark.slow

DEVICES = [
    "pixel-9:litert",
    "galaxy-s24:executorch",
    "iphone-15-pro:coreml",
    "macbook-air-m2:executorch-coreml",
    "raspberry-pi-5:native",
    "raspberry-pi-5:onnx",
    "pixel-9:coreml",
]
INT4 = ["galaxy-s24:executorch", "raspberry-pi-5:native", "raspberry-pi-5:onnx"]


@pytest.fixture(scope="module")
def model() -> ferrule.Model:
    return ferrule.load_model("sample:minilm")


@pytest.fixture(scope="module")
def results(model: ferrule.Model, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], ferrule.Result]:
    out = tmp_path_factory.mktemp("minilm")
    built = ferrule.deploy(model, devices=DEVICES, recipe="w8a8", out=out)
    built += ferrule.deploy(model, devices=INT4, recipe="w4g32", out=out)
    rows = json.loads((out / "build.json").read_text())["results"]
    assert len(rows) == len(built)
    return {(r.target if r.status == "ok" else r.status, r.recipe): r for r in built}


def linear_share(result: ferrule.Result) -> float:
    assert result.bundle is not None
    linear: list[StoredWeights] = [w for w in Bundle.open(result.bundle).program.weights if w.kind == "linear"]
    assert sum(w.elements for w in linear) == 6 * 384 * (4 * 384 + 2 * 1536)
    return sum(w.bytes for w in linear) / sum(w.fp32_bytes for w in linear)


@pytest.mark.parametrize("target", ["litert", "executorch", "coreml", "executorch-coreml", "native", "onnx"])
def test_int8_is_proven_and_small_on_every_target(results: dict[tuple[str, str], ferrule.Result], target: str) -> None:
    result = results[target, "w8a8"]
    assert result.parity is not None and result.parity.inputs == 50
    assert result.parity.cosine >= 0.99 and result.parity.fidelity >= 0.998
    assert linear_share(result) <= 0.27
    kinds = {w.kind for w in Bundle.open(str(result.bundle)).program.weights}
    assert "embedding" in kinds


@pytest.mark.parametrize("target", ["executorch", "native", "onnx"])
def test_int4_is_proven_and_small(results: dict[tuple[str, str], ferrule.Result], target: str) -> None:
    result = results[target, "w4g32"]
    assert result.parity is not None and result.parity.cosine >= 0.95 and result.parity.fidelity >= 0.995
    assert linear_share(result) <= 0.16


def test_impossible_pair_is_refused_and_spoils_nothing(results: dict[tuple[str, str], ferrule.Result]) -> None:
    refused = results["refused", "w8a8"]
    assert (refused.device, refused.target, refused.code) == ("pixel-9", "coreml", "FER-DEV-002")
    assert sum(r.status == "ok" for r in results.values()) == 9


@pytest.mark.parametrize("target", ["litert", "executorch", "coreml", "executorch-coreml", "native", "onnx"])
def test_every_length_gives_the_eager_answer(
    model: ferrule.Model, results: dict[tuple[str, str], ferrule.Result], target: str
) -> None:
    texts = ["hello world", "the bank raised its rates again " * 9]
    expected = embed_eager(model, texts)
    with ferrule.Session.open(str(results[target, "w8a8"].bundle)) as session:
        from ferrule.text import tokenize

        rows = tokenize(Bundle.open(str(results[target, "w8a8"].bundle)).root / "assets/tokenizer.json", texts, TOKENS)
        found = np.concatenate([session.run(row)["embedding"] for row in rows])
    assert (found * expected).sum(-1).min() > 0.99


@pytest.mark.parametrize("target", ["litert", "executorch", "coreml", "executorch-coreml", "native", "onnx"])
def test_check_passes_and_sees_a_changed_byte(
    results: dict[tuple[str, str], ferrule.Result], target: str, tmp_path: Path
) -> None:
    import shutil

    bundle = Path(str(results[target, "w8a8"].bundle))
    outcome = ferrule.check(bundle)
    assert outcome.ok and outcome.parity is not None and outcome.parity.cosine >= 0.99
    copy = tmp_path / bundle.name
    shutil.copytree(bundle, copy)
    largest = max((p for p in (copy / "program").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    broken = ferrule.check(copy)
    assert not broken.ok and any(largest.name in problem for problem in broken.problems)


def test_delegation_names_a_unit_for_every_op(results: dict[tuple[str, str], ferrule.Result]) -> None:
    for result in results.values():
        if result.bundle is None:
            continue
        rows = Bundle.open(result.bundle).program.delegation
        assert rows and all(row.op and row.unit and row.count > 0 for row in rows)
        assert all(row.reason for row in rows if row.unit in ("cpu:portable", "cpu:builtin"))


def test_the_same_build_gives_the_same_bytes(results: dict[tuple[str, str], ferrule.Result], tmp_path: Path) -> None:
    """In another process, with another hash seed, into another folder, through the command line."""
    command = [
        sys.executable,
        "-c",
        "from ferrule.cli import main; main()",
        "build",
        "sample:minilm",
        "--recipe",
        "w8a8",
    ]
    for device in ("raspberry-pi-5:onnx", "iphone-15-pro:coreml"):
        command += ["--device", device]
    done = subprocess.run(
        [*command, "-o", str(tmp_path), "--json", "--zip"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FERRULE_CACHE": "off"},
    )
    for row in json.loads(done.stdout):
        first = Path(str(results[row["target"], "w8a8"].bundle))
        second = Path(row["bundle"])
        names = sorted(str(p.relative_to(first)) for p in first.rglob("*") if p.is_file())
        assert names == sorted(str(p.relative_to(second)) for p in second.rglob("*") if p.is_file())
        assert filecmp.cmpfiles(first, second, names, shallow=False) == (names, [], [])
        with ferrule.Session.open(f"{second}.zip") as session:
            assert session.run(Bundle.open(second).proof.inputs[0])["embedding"].shape == (1, 384)
