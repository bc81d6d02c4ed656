"""Buckets: the lengths of the static programs that stand for a dynamic axis on targets that take fixed shapes only."""

from __future__ import annotations

from ferrule.program import Dim

__all__ = ["BUCKETS", "bucket_lengths"]

BUCKETS = (16, 64, 256, 512)
"""A phrase, a sentence or two, a page, the most that encoders take: padding costs at most fourfold, and few programs
cost conversion time and memory once loaded."""


def bucket_lengths(dim: Dim) -> tuple[int, ...]:
    """The lengths of BUCKETS clipped to the axis's range; its longest where all of BUCKETS are too short."""
    if dim.min > BUCKETS[-1]:
        return (dim.max,)
    return tuple(sorted({min(max(length, dim.min), dim.max) for length in BUCKETS}))
