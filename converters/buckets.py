"""Buckets: the lengths of the static programs that stand for a dynamic axis on targets that take fixed shapes only."""

from __future__ import annotations

from ferrule.program import Dim

__all__ = ["BUCKETS", "bucket_lengths"]

BUCKETS = (32, 128, 512)
"""A sentence, a paragraph, the most that encoders take. Each program costs conversion time, and memory once loaded."""


def bucket_lengths(dim: Dim) -> tuple[int, ...]:
    """The lengths of BUCKETS clipped to the axis's range; its longest where all of BUCKETS are too short."""
    if dim.min > BUCKETS[-1]:
        return (dim.max,)
    return tuple(sorted({min(max(length, dim.min), dim.max) for length in BUCKETS}))
