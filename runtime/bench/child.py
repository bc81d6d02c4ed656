"""The measuring process: `python -m ferrule.runtime.bench.child BUNDLE THREADS RUNS [LENGTH]`."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.errors import FerruleError, InputError
from ferrule.program import Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.bundle import Bundle

__all__ = ["first_inputs", "main", "peak_rss_mb", "resize_inputs"]

WARM_UP = 5
PERCENTILES = (10, 25, 50, 75, 90, 99)


def main(bundle_path: str, threads: int, runs: int, length: int | None) -> dict[str, Any]:
    """Open, warm up, time each run; a dict with the fields of Measurement."""
    from ferrule.bundle import Bundle
    from ferrule.runtime.session import ENGINES, open_program

    bundle = Bundle.open(bundle_path)
    bundle.verify()
    import_module(ENGINES[bundle.target].partition(":")[0])
    _import_engine(bundle.target)
    start = time.perf_counter()
    session = open_program(bundle.root / bundle.main, bundle.target, bundle.entry_points, threads)
    load = time.perf_counter() - start
    inputs, signature = first_inputs(bundle, length)
    start = time.perf_counter()
    session.run(inputs)
    first = time.perf_counter() - start
    for _ in range(WARM_UP):
        session.run(inputs)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        session.run(inputs)
        times.append(1e3 * (time.perf_counter() - start))
    found = zip(PERCENTILES, np.percentile(times, PERCENTILES), strict=True)
    return {
        "engine": session.engine.name,
        "threads": threads,
        "runs": runs,
        "length": _length(inputs, signature),
        "latency_ms": {f"p{percent}": round(float(value), 4) for percent, value in found},
        "load_ms": round(1e3 * load, 3),
        "first_ms": round(1e3 * first, 4),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def first_inputs(bundle: Bundle, length: int | None) -> tuple[Mapping[str, NDArray[Any]], Signature]:
    """The first proof input, at a length of the dynamic axis if one is given, and the signature that takes it."""
    inputs: Mapping[str, NDArray[Any]] = bundle.proof.inputs[0]
    signature = bundle.entry_points[bundle.manifest["model"]["policy"]["entry_point"]]
    return (inputs if length is None else resize_inputs(inputs, signature, length)), signature


def resize_inputs(inputs: Mapping[str, NDArray[Any]], signature: Signature, length: int) -> dict[str, NDArray[Any]]:
    """Repeat or cut the inputs along their dynamic axes; raises InputError FER-INP-005 where there is none."""
    if not signature.dims:
        raise InputError("FER-INP-005", "The bundle has static shapes only.", "Leave --length out.")
    out = {}
    for spec in signature.inputs:
        array = inputs[spec.name]
        for axis, name in enumerate(spec.shape):
            if isinstance(name, str):
                array = np.take(array, np.arange(length) % array.shape[axis], axis)
        out[spec.name] = array
    return out


def _import_engine(target: str) -> None:
    """Import the toolkit before the clock runs: an app links it, and Python's import is no part of loading."""
    packages = {
        "native": "ferrule.runtime._C",
        "onnx": "onnxruntime",
        "litert": "ai_edge_litert.interpreter",
        "executorch": "executorch.runtime",
        "coreml": "coremltools",
        "executorch-coreml": "coremltools",
    }
    try:
        import_module(packages[target])
    except ImportError:  # the engine itself says what is missing
        return


def _length(inputs: Mapping[str, NDArray[Any]], signature: Signature) -> int | None:
    for spec in signature.inputs:
        for axis, name in enumerate(spec.shape):
            if isinstance(name, str):
                return int(inputs[spec.name].shape[axis])
    return None


def peak_rss_mb() -> float:
    """VmHWM where there is one: ru_maxrss of a forked process starts from its parent's size."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


if __name__ == "__main__":
    try:
        answer = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
    except FerruleError as error:
        answer = {"code": error.code, "message": error.message, "hint": error.hint}
    print(json.dumps(answer))
