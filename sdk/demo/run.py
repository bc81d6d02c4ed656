"""Build, prove, classify, measure, report: the whole length of the road in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.atomic import write_json
from ferrule.bundle import Bundle
from ferrule.demo.accuracy import TASK, TOKENS, bundle_accuracies, fit_head
from ferrule.flow import deploy
from ferrule.jobs import Progress
from ferrule.result import Result

__all__ = ["DEVICES", "Row", "run_demo"]

DEVICES = (
    "pixel-9:litert",
    "galaxy-s24:executorch",
    "iphone-15-pro:coreml",
    "macbook-air-m2:executorch-coreml",
    "raspberry-pi-5:native",
    "raspberry-pi-5:onnx",
)
OTHERS = ("galaxy-s24:executorch", "raspberry-pi-5:native", "raspberry-pi-5:onnx")
"""Devices that get `fp` and `w4g32` too, to compare with."""

RUNS = 30


@dataclass(frozen=True)
class Row:
    """A line of the demo's table. linear_share: bytes of linear layers over their float32 size. accuracy: a fraction.

    latency_ms: host p50 at 64 tokens; None for Core ML, whose reference interpreter says nothing about speed.
    """

    result: Result
    linear_share: float | None
    accuracy: float | None
    latency_ms: float | None


def run_demo(out: Path, say: Callable[[str], None], progress: Progress | None = None) -> tuple[list[Row], float]:
    """Build nine bundles of MiniLM in `out`, with `accuracy.json`, `measurements.json` and `report.html`.

    Returns the rows of the table and the float32 model's accuracy.
    """
    from ferrule.report import write_report
    from ferrule.sources import load_model

    say("loading MiniLM (22.7 M parameters) and fitting a topic classifier on its embeddings")
    model = load_model("sample:minilm")
    head = fit_head(model)
    say(f"eager float32 model: {100 * head.reference:.1f} % of 1000 news articles")
    say("compressing, converting and proving, two targets at a time")
    results = deploy(model, devices=DEVICES, recipe="w8a8", out=out, progress=progress)
    results += deploy(model, devices=OTHERS, recipe=["fp", "w4g32"], out=out, progress=progress)
    built = [r.bundle for r in results if r.bundle is not None]
    say("classifying the articles by each artefact in its own engine")
    accuracies = bundle_accuracies(built, head)
    say("measuring latency on this machine")
    measurements = _measure(built)
    write_json(
        out / "accuracy.json",
        {
            "task": TASK,
            "command": "ferrule demo",
            "reference": {"name": "eager float32", "accuracy": head.reference},
            "results": {Path(b).name: a for b, a in accuracies.items()},
        },
    )
    write_json(out / "measurements.json", measurements)
    write_report(out, out / "report.html")
    return [_row(r, accuracies, measurements["results"]) for r in results], head.reference


def _measure(bundles: list[str]) -> dict[str, Any]:
    """One after the other: two at once would measure each other."""
    from ferrule.runtime.bench.measure import host, measure

    rows = {}
    for bundle in bundles:
        reference = Bundle.open(bundle).program.parity
        if reference is not None and reference.engine.endswith("-reference"):
            continue
        rows[Path(bundle).name] = measure(bundle, threads=1, runs=RUNS, length=TOKENS).to_json()
    return {"machine": host(), "command": "ferrule demo", "results": rows}


def _row(result: Result, accuracies: dict[str, float], measured: dict[str, Any]) -> Row:
    if result.bundle is None:
        return Row(result, None, None, None)
    linear = [w for w in Bundle.open(result.bundle).program.weights if w.kind == "linear"]
    share = sum(w.bytes for w in linear) / sum(w.fp32_bytes for w in linear) if linear else None
    timing = measured.get(Path(result.bundle).name)
    return Row(result, share, accuracies.get(result.bundle), timing["latency_ms"]["p50"] if timing else None)
