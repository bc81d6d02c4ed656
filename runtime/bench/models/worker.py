"""The measuring process of one way to run a model: `python -m … CASE WAY DTYPE FOLDER THREADS`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ferrule.runtime.bench.child import peak_rss_mb
from ferrule.runtime.bench.models.case import CASES, PEERS, package_of
from ferrule.runtime.bench.models.inputs import read_arrays, write_arrays
from ferrule.runtime.bench.models.prepare import folder_of
from ferrule.runtime.bench.models.runners import open_runner
from ferrule.runtime.bench.process import pin, serve

__all__ = ["Worker"]

ROUND_S = 0.05
"""At least so long is timed at once."""
LEAD = 3
"""A round's calls by those that go before: caches and sleeping threads are those of others."""


class Worker:
    """A model, opened."""

    def __init__(self, case: str, way: str, dtype: str, root: str, threads: int) -> None:
        self.case, self.root, self.threads = CASES[case], Path(root), threads
        self.way, self.folder = way, folder_of(self.root, way, dtype)
        _import(package_of(way))
        start = time.perf_counter()
        self.runner = open_runner(self.case, way, self.folder, threads)
        self.load_s = time.perf_counter() - start
        self.body: Callable[[], Any] = lambda: None
        self.calls = 1

    def open(self, length: int) -> dict[str, Any]:
        """Bind the inputs of a length, run it once, then warm up. Milliseconds of opening and of the first run."""
        (inputs,) = read_arrays(self.root / f"inputs-{length}.npz")
        start = time.perf_counter()
        self.body = self.runner.bind(inputs, length)
        opened = time.perf_counter()
        self.body()
        first = time.perf_counter()
        self._settle()
        return {"load_ms": 1e3 * (self.load_s + opened - start), "first_ms": 1e3 * (first - opened)}

    def open_texts(self) -> dict[str, Any]:
        """Bind all proof inputs, one after another, at their own lengths or, static, at the next of the case."""
        bodies = []
        for row in read_arrays(self.root / "texts.npz"):
            length = max(array.shape[1] for array in row.values())
            if self.runner.is_static:
                length = next(each for each in self.case.lengths if each >= length)
                row = _padded(row, length)
            bodies.append(self.runner.bind(row, length))

        def all_texts() -> None:
            for body in bodies:
                body()

        self.body = all_texts
        self._settle()
        return {"texts": len(bodies)}

    def _settle(self) -> None:
        for _ in range(3):
            self.body()
        start = time.perf_counter()
        self.body()
        self.calls = max(1, int(ROUND_S / max(time.perf_counter() - start, 1e-6)))

    def time(self) -> dict[str, Any]:
        """Microseconds of a call, the mean of a round."""
        for _ in range(self.calls // LEAD + 1):
            self.body()
        start = time.perf_counter()
        for _ in range(self.calls):
            self.body()
        return {"us": 1e6 * (time.perf_counter() - start) / self.calls}

    def answers(self, length: int, path: str) -> dict[str, Any]:
        """Outputs for the proof inputs of a length, into a file."""
        proofs = read_arrays(self.root / f"proofs-{length}.npz")
        write_arrays(Path(path), [{"0": self.runner.bind(row, length)()[0].copy()} for row in proofs])
        return {}

    def footprint(self) -> dict[str, Any]:
        """Megabytes that the process had at most."""
        return {"peak_mb": peak_rss_mb()}


def _import(package: str) -> None:
    """Before the clock of opening runs: an app links its runtime."""
    from importlib import import_module

    modules = {
        "ferrule": "ferrule.runtime._C",
        "executorch": "executorch.runtime",
        "litert": "ai_edge_litert.interpreter",
    }
    import_module(modules.get(package, PEERS.get(package, package)))


def _padded(row: dict[str, Any], length: int) -> dict[str, Any]:
    """Token ids and mask filled with zeros, which the mask hides."""
    import numpy as np

    return {name: np.pad(array, ((0, 0), (0, length - array.shape[1]))) for name, array in row.items()}


def main() -> None:
    """Answer until the input ends."""
    case, way, dtype, root, threads = *sys.argv[1:5], int(sys.argv[5])
    pin(threads)
    serve(lambda: Worker(case, way, dtype, root, threads))


if __name__ == "__main__":
    main()
