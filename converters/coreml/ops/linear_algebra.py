"""Matrix products and attention. Half precision is multiplied and summed in fp32, rounded at the output."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ferrule.converters.coreml.ops.call import Array, Call, OpFunction, widen
from ferrule.converters.coreml.ops.normalisation import softmax_array

__all__ = ["OPS"]


def _linear(call: Call, x: Array, weight: Array, bias: Array | None = None) -> Any:
    wide = widen(x)
    # one product of two matrices: a stack of small ones would leave BLAS's fast path
    flat = wide.reshape(-1, wide.shape[-1]) @ widen(weight).T
    if bias is not None:
        flat = flat + widen(bias)
    return flat.reshape(*x.shape[:-1], weight.shape[0])


def _matmul(call: Call, x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Any:
    left, right = widen(x), widen(y)
    if bool(transpose_x) and left.ndim > 1:
        left = left.swapaxes(-1, -2)
    if bool(transpose_y) and right.ndim > 1:
        right = right.swapaxes(-1, -2)
    return np.matmul(left, right)


def _einsum(call: Call, values: tuple[Array, ...], equation: str) -> Any:
    return np.einsum(equation, *(widen(v) for v in values), optimize=True)


def _attention(call: Call, query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Any:
    scores = np.matmul(widen(query), widen(key).swapaxes(-1, -2)) / np.float32(sqrt(query.shape[-1]))
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        scores = np.where(attn_mask, scores, np.float32(-np.inf))
    elif attn_mask is not None:
        scores = scores + widen(attn_mask)
    return np.matmul(softmax_array(scores, -1), widen(value))


OPS: dict[str, OpFunction] = {
    "linear": _linear,
    "matmul": _matmul,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}
