"""What lies beside the bundles: `measurements.json`, `accuracy.json`, `sensitivity.json`, as plain frozen data."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.report.settle import to_count

__all__ = [
    "MALFORMED",
    "AccuracyRun",
    "Json",
    "Latency",
    "LayerLoss",
    "Machine",
    "Sensitivity",
    "read_accuracies",
    "read_json",
    "read_latency",
    "read_measurements",
    "read_sensitivity",
]

Json = Mapping[str, Any]
MALFORMED = (AttributeError, KeyError, OSError, OverflowError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Latency:
    """A measurement on the machine that wrote `measurements.json`; milliseconds and megabytes (10^6 bytes).

    p10, p25 and p75 are None where an older version measured.
    """

    engine: str
    threads: int
    runs: int
    length: int | None
    p50: float
    p90: float
    p99: float
    load_ms: float
    peak_rss_mb: float
    p10: float | None = None
    p25: float | None = None
    p75: float | None = None


@dataclass(frozen=True)
class Machine:
    """Where the host latencies were measured, and the command that measures them."""

    cpu: str
    cores: int
    system: str
    command: str


@dataclass(frozen=True)
class AccuracyRun:
    """The task behind the accuracies (fractions), the model they are compared to, and the command."""

    task: str
    command: str
    reference: str
    reference_accuracy: float


@dataclass(frozen=True)
class LayerLoss:
    """What the model loses when this layer alone is compressed; cosine is that of the outputs."""

    name: str
    kind: str
    elements: int
    loss: float
    cosine: float


@dataclass(frozen=True)
class Sensitivity:
    """Losses by layer of one model and recipe; baseline: the loss of what the layers are compared with."""

    model: str
    recipe: str
    metric: str
    command: str
    baseline: float
    layers: tuple[LayerLoss, ...]

    @property
    def ranked(self) -> tuple[LayerLoss, ...]:
        """Worst first; by name where the losses are equal."""
        return tuple(sorted(self.layers, key=lambda layer: (-layer.loss, layer.name)))


def read_json(path: Path, problems: list[str]) -> Json | None:
    """The object in a file; None if it is absent, or unreadable (then told in `problems`)."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} is left out: it is not readable JSON ({error}).")
        return None
    if not isinstance(data, dict):
        problems.append(f"{path.name} is left out: it holds a {type(data).__name__}, not an object.")
        return None
    return data


def read_measurements(folder: Path, problems: list[str]) -> tuple[Machine | None, dict[str, Latency]]:
    """The machine, and latencies by the name of the bundle."""
    data = read_json(folder / "measurements.json", problems)
    if data is None:
        return None, {}
    try:
        place = data["machine"]
        machine = Machine(str(place["cpu"]), int(place["cores"]), str(place["system"]), str(data["command"]))
        return machine, {str(name): read_latency(found) for name, found in data["results"].items()}
    except MALFORMED as error:
        problems.append(f"measurements.json is left out: {type(error).__name__}: {error}.")
        return None, {}


def read_latency(found: Json) -> Latency:
    """A row of `measurements.json`, which is what `ferrule measure --json` prints."""
    times = found["latency_ms"]
    length = found.get("length")
    optional: dict[str, Any] = {
        name: _finite(times[name]) for name in ("p10", "p25", "p75") if times.get(name) is not None
    }
    return Latency(
        engine=str(found["engine"]),
        threads=int(found["threads"]),
        runs=int(found["runs"]),
        length=None if length is None else int(length),
        p50=_finite(times["p50"]),
        p90=_finite(times["p90"]),
        p99=_finite(times["p99"]),
        load_ms=_finite(found["load_ms"]),
        peak_rss_mb=_finite(found["peak_rss_mb"]),
        **optional,
    )


def read_accuracies(folder: Path, problems: list[str]) -> tuple[AccuracyRun | None, dict[str, float]]:
    """The task, and accuracies (fractions) by the name of the bundle."""
    data = read_json(folder / "accuracy.json", problems)
    if data is None:
        return None, {}
    try:
        reference = data["reference"]
        run = AccuracyRun(
            str(data["task"]), str(data["command"]), str(reference["name"]), _finite(reference["accuracy"])
        )
        return run, {str(name): _finite(value) for name, value in data["results"].items()}
    except MALFORMED as error:
        problems.append(f"accuracy.json is left out: {type(error).__name__}: {error}.")
        return None, {}


def read_sensitivity(folder: Path, problems: list[str]) -> Sensitivity | None:
    """What `ferrule sensitivity` left in the folder; None where there is nothing or no layer."""
    data = read_json(folder / "sensitivity.json", problems)
    if data is None:
        return None
    try:
        return Sensitivity(
            model=str(data["model"]),
            recipe=str(data["recipe"]),
            metric=str(data["metric"]),
            command=str(data["command"]),
            baseline=_finite(data["baseline"]["loss"]),
            layers=tuple(_layer(layer) for layer in data["layers"]),
        )
    except MALFORMED as error:
        problems.append(f"sensitivity.json is left out: {type(error).__name__}: {error}.")
        return None


def _layer(layer: Json) -> LayerLoss:
    return LayerLoss(
        name=str(layer["name"]),
        kind=str(layer["kind"]),
        elements=to_count(layer["elements"]),
        loss=_finite(layer["loss"]),
        cosine=_finite(layer["cosine"]),
    )


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a finite number")
    return number
