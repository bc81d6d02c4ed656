"""MIL's ops in numpy: one file a family, joined here into one table."""

from __future__ import annotations

from ferrule.converters.coreml.ops import (
    constexpr,
    convolution,
    elementwise,
    gather_scatter,
    linear_algebra,
    normalisation,
    reduce,
    resize,
    shape,
    state,
)
from ferrule.converters.coreml.ops.call import Call, OpFunction

__all__ = ["OPS", "WIDE_CONSTANTS", "Call", "OpFunction"]

OPS: dict[str, OpFunction] = {
    **constexpr.OPS,
    **elementwise.OPS,
    **linear_algebra.OPS,
    **normalisation.OPS,
    **reduce.OPS,
    **shape.OPS,
    **gather_scatter.OPS,
    **convolution.OPS,
    **resize.OPS,
    **state.OPS,
}

WIDE_CONSTANTS = frozenset(
    {"linear", "matmul", "einsum", "conv", "conv_transpose", "layer_norm", "batch_norm", "instance_norm"}
)
"""Kinds that widen half-precision constants at every call: they are given an fp32 copy that is made once."""
