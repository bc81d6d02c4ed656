"""Ferrule's kernels beside those of other packages, on the same work and the same machine."""

from ferrule.runtime.bench.kernels.cases import list_cases
from ferrule.runtime.bench.kernels.rounds import Found, bench_kernels

__all__ = ["Found", "bench_kernels", "list_cases"]
