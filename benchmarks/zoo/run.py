"""Build one architecture for the zoo's four targets, and look harder at what was proven than a build does."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.entries import ENTRIES
from ferrule.bundle import Bundle
from ferrule.errors import FerruleError
from ferrule.flow import deploy
from ferrule.model import Model
from ferrule.recipe import load_recipe
from ferrule.result import Result
from ferrule.runtime.session import Session

__all__ = ["BARS", "DESTINATIONS", "build"]

DESTINATIONS = {
    "coreml": "iphone-15-pro:coreml",
    "executorch": "galaxy-s24:executorch",
    "litert": "pixel-9:litert",
    "onnx": "raspberry-pi-5:onnx",
}
BARS = {"fp": 0.999, "w8a8": 0.99}
"""Lowest cosine to the eager float32 model over all proof inputs and outputs."""


def build(name: str, recipe: str, targets: list[str], model: Model | None = None) -> dict[str, dict[str, Any]]:
    """Target -> outcome: status `proven`, `refused`, `failed` or `wrong`, with its figures or its reason."""
    asked = {**load_recipe(recipe).to_json(), "min_cosine": BARS.get(recipe, 0.99)}
    try:
        given = model or ENTRIES[name].build(name)
    except FerruleError as error:
        return {target: _failed("refused", error.code, error.message) for target in targets}
    with tempfile.TemporaryDirectory() as out:
        results = deploy(given, devices=[DESTINATIONS[t] for t in targets], recipe=asked, out=out)
        return {result.target: _outcome(result) for result in results}


def _failed(status: str, code: str | None, reason: str | None) -> dict[str, Any]:
    return {"status": status, "code": code, "reason": reason}


def _outcome(result: Result) -> dict[str, Any]:
    if result.status != "ok":
        status = "wrong" if (result.code or "").startswith("FER-PAR") else _status(result)
        return _failed(status, result.code, result.reason)
    assert result.parity is not None and result.bundle is not None
    return {
        "status": "proven",
        "cosine": result.parity.cosine,
        "contrast": _contrast(Path(result.bundle)),
        "seconds": result.seconds,
        "kb": round((result.size_bytes or 0) / 1000),
    }


def _status(result: Result) -> str:
    """Refused is what was told by name; failed, what a toolkit, an engine or a worker ended on."""
    return "failed" if result.code in (None, "FER-LOW-005", "FER-LOW-009", "FER-LOW-010", "FER-LOW-011") else "refused"


def _contrast(bundle: Path) -> float:
    """The lowest cosine of what differs between inputs, or between positions of one: a constant answer scores 0.

    A network whose answer hardly depends on its input has a cosine near 1 whatever a converter makes of it.
    """
    proof = Bundle.open(bundle).proof
    with Session.open(bundle) as session:
        found = [session.run(row) for row in proof.inputs]
    lowest = 1.0
    for name in proof.reference[0]:
        wanted = [row[name].astype(np.float64) for row in proof.reference]
        given = [row[name].astype(np.float64) for row in found]
        lowest = min(lowest, _centred_cosine(wanted, given))
    return round(lowest, 6)


def _centred_cosine(wanted: list[Any], given: list[Any]) -> float:
    if len({a.shape for a in wanted}) > 1:  # rows of several lengths: what differs between positions
        return min(
            _cosine(a - a.mean(-2, keepdims=True), b - b.mean(-2, keepdims=True)) for a, b in _pairs(wanted, given)
        )
    x, y = np.stack(wanted), np.stack(given)
    return _cosine(x - x.mean(0), y - y.mean(0))


def _pairs(wanted: list[Any], given: list[Any]) -> list[tuple[Any, Any]]:
    return [(a, b) for a, b in zip(wanted, given, strict=True) if a.shape[-2] > 1]


def _cosine(x: Any, y: Any) -> float:
    finite = np.isfinite(x) & np.isfinite(y)
    a, b = x[finite], y[finite]
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / size if size else 0.0


if __name__ == "__main__":
    _, _name, _recipe, _targets, _out = sys.argv
    Path(_out).write_text(json.dumps(build(_name, _recipe, _targets.split(","))))
