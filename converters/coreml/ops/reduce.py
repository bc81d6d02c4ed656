"""Reductions, running sums, sorting."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.converters.coreml.ops.call import Array, Call, OpFunction, axes_of, widen

__all__ = ["OPS"]


def _reduction(function: Any) -> OpFunction:
    def apply(call: Call, x: Array, axes: Any = None, keep_dims: Any = False) -> Any:
        return function(widen(x), axis=axes_of(axes, x.ndim), keepdims=bool(keep_dims))

    return apply


def _index_of(function: Any) -> OpFunction:
    # `output_dtype` only repeats the declared type of the output
    def apply(call: Call, x: Array, axis: Any = -1, keep_dims: Any = False, output_dtype: str = "int32") -> Any:
        return function(x, axis=int(axis), keepdims=bool(keep_dims))

    return apply


def _log_sum_exp(x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    most = x.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(most), most, 0)  # -inf alone must give -inf, not NaN
    total = np.log(np.exp(x - shift).sum(axis=axis, keepdims=True)) + shift
    result: Array = total if keepdims else total.squeeze(axis)
    return result


def _l2(x: Array, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.sqrt(np.square(x).sum(axis=axis, keepdims=keepdims))


def _cumsum(call: Call, x: Array, axis: Any = 0, exclusive: Any = False, reverse: Any = False) -> Any:
    at = int(axis) % x.ndim
    wide = np.flip(widen(x), at) if bool(reverse) else widen(x)
    sums = np.cumsum(wide, axis=at)
    if bool(exclusive):
        head = np.zeros_like(sums.take([0], axis=at))
        sums = np.concatenate([head, sums.take(range(sums.shape[at] - 1), axis=at)], axis=at)
    return np.flip(sums, at) if bool(reverse) else sums


def _order(x: Array, axis: int, ascending: bool) -> Array:
    """Indices that sort x; among equals the first comes first, in either direction."""
    signed = x.astype(np.int64) if x.dtype.kind in "iub" else x
    return np.argsort(signed if ascending else -signed, axis=axis, kind="stable")


def _argsort(call: Call, x: Array, axis: Any = -1, ascending: Any = False) -> Any:
    return _order(x, int(axis), bool(ascending))


def _topk(
    call: Call,
    x: Array,
    k: Any = 1,
    axis: Any = -1,
    ascending: Any = False,
    sort: Any = True,
    return_indices: Any = True,
    output_indices_dtype: str = "int32",
) -> Any:
    indices = _order(x, int(axis), bool(ascending)).take(range(int(k)), axis=int(axis))
    values = np.take_along_axis(x, indices, axis=int(axis))
    return (values, indices) if bool(return_indices) else values


OPS: dict[str, OpFunction] = {
    "reduce_sum": _reduction(np.sum),
    "reduce_mean": _reduction(np.mean),
    "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min),
    "reduce_prod": _reduction(np.prod),
    "reduce_l1_norm": _reduction(lambda x, axis, keepdims: np.abs(x).sum(axis=axis, keepdims=keepdims)),
    "reduce_l2_norm": _reduction(_l2),
    "reduce_log_sum": _reduction(lambda x, axis, keepdims: np.log(x.sum(axis=axis, keepdims=keepdims))),
    "reduce_log_sum_exp": _reduction(_log_sum_exp),
    "reduce_sum_square": _reduction(lambda x, axis, keepdims: np.square(x).sum(axis=axis, keepdims=keepdims)),
    "reduce_argmax": _index_of(np.argmax),
    "reduce_argmin": _index_of(np.argmin),
    "cumsum": _cumsum,
    "argsort": _argsort,
    "topk": _topk,
}
