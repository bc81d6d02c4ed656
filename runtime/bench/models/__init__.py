"""Whole models in our runtime beside other runtimes, on the same inputs and the same machine."""

from ferrule.runtime.bench.models.case import CASES, PEERS
from ferrule.runtime.bench.models.rounds import Found, bench_models

__all__ = ["CASES", "PEERS", "Found", "bench_models"]
