"""`ferrule bench models`: its inputs, its arithmetic and its command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ferrule
from ferrule.cli import main
from ferrule.recipe import load_recipe
from ferrule.runtime.bench.models.case import CASES, PEERS, package_of
from ferrule.runtime.bench.models.inputs import fit_length, read_arrays, take_proofs, write_arrays

FIELDS = {"model", "shape", "dtype", "threads", "peer", "ours_us", "peer_us", "ratio", "cosine"}


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ferrule", "bench", "models", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capfd.readouterr()
    return int(caught.value.code or 0), out, err


def test_every_case_names_known_peers_and_recipes() -> None:
    for case in CASES.values():
        assert case.lengths and set(case.recipes) <= set(case.peers)
        assert {package_of(way) for ways in case.peers.values() for way in ways} <= set(PEERS)
        for recipe in {**case.recipes, **case.further}.values():
            assert load_recipe(recipe).steps or recipe == "fp"
        assert all(dtype.partition(" ")[0] in case.peers for dtype in case.further)


def test_inputs_are_repeated_to_be_timed_and_padded_to_be_compared(tmp_path: Path) -> None:
    model = ferrule.load_model("sample:minilm")
    (row, *_) = take_proofs(model, 0)
    have = row["input_ids"].shape[1]
    longer = fit_length(model, row, have + 5, True)
    assert (longer["input_ids"][0, have:] == row["input_ids"][0, :5]).all() and longer["attention_mask"].all()
    padded = fit_length(model, row, have + 5, False)
    assert not padded["attention_mask"][0, have:].any() and (padded["input_ids"][0, :have] == row["input_ids"]).all()
    write_arrays(tmp_path / "rows.npz", [row, padded])
    for wanted, found in zip([row, padded], read_arrays(tmp_path / "rows.npz"), strict=True):
        assert list(wanted) == list(found)
        assert all(np.array_equal(wanted[name], found[name]) for name in wanted)


@pytest.mark.parametrize(
    ("words", "told"), [(["--model", "bert"], "is not one of minilm"), (["--peer", "mlx"], "is not one of torch")]
)
def test_wrong_words_are_refused(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(monkeypatch, capfd, *words)
    assert code == 2 and told in " ".join(err.replace("│", " ").split())


@pytest.mark.slow
def test_it_measures_the_vision_transformer_beside_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "vit", "--peer", "torch", "--rounds", "2", "-o", str(tmp_path / "m.json"), "--json"]
    code, out, err = call(monkeypatch, capfd, *words)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert json.loads((tmp_path / "m.json").read_text()) == found
    rows = {row["dtype"]: row for row in found["rows"]}
    assert set(rows) == {"float32", "int8", "int8 tome8"} and all(
        set(row) | {"peer_us"} >= FIELDS for row in rows.values()
    )
    assert rows["float32"]["peer"] == "torch" and rows["float32"]["ratio"] > 0
    assert rows["float32"]["cosine"] > 0.9999 and rows["int8"]["cosine"] > 0.99
    assert rows["int8"]["file_mb"] < 0.4 * rows["float32"]["file_mb"]
    ours = [row for row in found["footprints"] if row["way"] == "ferrule"]
    assert {row["dtype"] for row in ours} == set(rows) and all(row["peak_mb"] > 10 for row in ours)
