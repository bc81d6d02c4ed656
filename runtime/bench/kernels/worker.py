"""The measuring process of one package: `python -m ferrule.runtime.bench.kernels.worker PACKAGE THREADS`.

Each package has a process of its own, so that threads that spin while they wait, and a crash, are its own.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any

from ferrule.runtime.bench.kernels.case import OURS, PACKAGES, Body
from ferrule.runtime.bench.process import pin, serve

__all__ = ["Worker", "main"]

ROUND_S = 0.02
"""At least so long is timed at once."""
LEAD = 3
"""A round's calls by those that go before."""


class Worker:
    """Bodies that were prepared, and how many calls make a round of each."""

    def __init__(self, package: str, threads: int) -> None:
        from ferrule.runtime.bench.kernels.cases import list_cases

        self.threads = threads
        if package != OURS:
            import_module(PACKAGES[package])
        if package == "torch":
            import torch

            torch.set_num_threads(threads)
            torch.set_grad_enabled(False)
        self.cases = {case.name: case for case in list_cases()}
        self.bodies: dict[str, tuple[Body, int]] = {}
        self.turn = 0

    def prepare(self, case: str, way: str) -> dict[str, Any]:
        """Build, warm up, and choose how many calls are timed at once."""
        body = self.cases[case].ways[way](self.threads)
        for turn in range(3):
            body(turn)
        start = time.perf_counter()
        body(3)
        once = time.perf_counter() - start
        calls = max(1, int(ROUND_S / max(once, 1e-6)))
        self.bodies[way] = body, calls
        self.time(way)
        return {"calls": calls}

    def time(self, way: str) -> dict[str, Any]:
        """Microseconds of a call, the mean of a round.

        Some calls go first, untimed: other packages have been at work since the last round, and caches and sleeping
        threads are theirs.
        """
        body, calls = self.bodies[way]
        first = self.turn + calls // LEAD + 1
        for turn in range(self.turn, first):
            body(turn)
        self.turn = first + calls
        start = time.perf_counter()
        for turn in range(first, self.turn):
            body(turn)
        return {"us": 1e6 * (time.perf_counter() - start) / calls}

    def forget(self) -> dict[str, Any]:
        """Give the memory of all bodies back."""
        self.bodies.clear()
        return {}

    def peaks(self) -> dict[str, Any]:
        """This machine's; asked of our own worker."""
        from ferrule.runtime.bench.kernels.peaks import measure_peaks

        found = measure_peaks(self.threads)
        return {**found.__dict__, "read_gbps": list(found.read_gbps.items())}

    def version(self) -> dict[str, Any]:
        """Of the package."""
        from importlib import metadata

        names = {"llama.cpp": "llama-cpp-python"}
        package = sys.argv[1]
        return {"version": metadata.version(names.get(package, package)) if package != OURS else ""}


def main() -> None:
    """Answer until the input ends."""
    package, threads = sys.argv[1], int(sys.argv[2])
    pin(threads)
    serve(lambda: Worker(package, threads))


if __name__ == "__main__":
    main()
