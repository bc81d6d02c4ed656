"""Constants and compressed constants, decoded from their codes; quantize and dequantize beside them."""

from __future__ import annotations

from math import log2
from typing import Any

import numpy as np

from ferrule.converters.coreml.constants import unpack
from ferrule.converters.coreml.ops.call import Array, Call, OpFunction, to_list, widen

__all__ = ["OPS"]


def _const(call: Call, val: Any) -> Any:
    return val


def _along(v: Array, rank: int, axis: Any) -> Array:
    """A scalar, or a vector laid along one axis of a tensor of that rank."""
    if v.ndim == 0 or axis is None:
        return v
    shape = [1] * rank
    shape[int(axis)] = -1
    return v.reshape(shape)


def _affine(call: Call, quantized_data: Array, zero_point: Array, scale: Array, axis: Any) -> Any:
    rank = quantized_data.ndim
    shifted = quantized_data.astype(np.float32) - _along(zero_point, rank, axis).astype(np.float32)
    return _along(widen(scale), rank, axis) * shifted


def _spread(v: Array, shape: tuple[int, ...]) -> Array:
    """Repeat each element over its block, so that v has the shape given."""
    for axis, size in enumerate(shape):
        if v.shape[axis] not in (1, size):
            v = np.repeat(v, size // v.shape[axis], axis=axis)
    return np.broadcast_to(v, shape)


def _shift_scale(call: Call, data: Array, scale: Array, offset: Array | None = None) -> Any:
    wide = data.astype(np.float32)
    if offset is not None:
        wide = wide - _spread(offset, data.shape).astype(np.float32)
    return wide * _spread(widen(scale), data.shape)


def _lookup(indices: Array, lut: Array, vector_axis: Any) -> Array:
    """Entries of palettes [groups…, entries, vector] by index, vectors laid along one axis."""
    groups, size = lut.shape[:-2], lut.shape[-1]
    if any(n % g for n, g in zip(indices.shape, groups, strict=True)):
        raise ValueError(f"{lut.shape} palettes do not divide indices of shape {indices.shape}")
    grid = np.ix_(*(np.arange(n) // (n // g) for n, g in zip(indices.shape, groups, strict=True)))
    found: Array = lut[(*grid, indices)]
    if size == 1:
        return found[..., 0]
    axis = int(vector_axis) % indices.ndim
    shape = list(indices.shape)
    shape[axis] *= size
    return np.moveaxis(found, -1, axis + 1).reshape(shape)


def _lut_to_dense(call: Call, indices: Array, lut: Array, shape: Array | None = None, vector_axis: Any = None) -> Any:
    if shape is None:
        return _lookup(indices, lut, vector_axis)
    target = to_list(shape)  # the form of iOS 16: packed indices and one palette
    codes = unpack(indices, int(log2(lut.size)), int(np.prod(target)))
    return lut[codes].reshape(target)


def _fill(mask: Array, nonzero: Array) -> Array:
    dense = np.zeros(mask.shape, dtype=nonzero.dtype)
    dense[mask != 0] = nonzero
    return dense


def _sparse_to_dense(call: Call, nonzero_data: Array, mask: Array, shape: Array | None = None) -> Any:
    if shape is not None:  # the form of iOS 16: one bit an element
        target = to_list(shape)
        mask = unpack(mask, 1, int(np.prod(target))).reshape(target)
    return _fill(mask, nonzero_data)


def _lut_to_sparse(
    call: Call, indices_mask: Array, indices_nonzero_data: Array, lut: Array, vector_axis: Any = None
) -> Any:
    dense = _lookup(_fill(indices_mask, indices_nonzero_data), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1:
        mask = np.repeat(mask, lut.shape[-1], axis=int(vector_axis))
    return mask, dense[mask != 0]


def _sparse_shift_scale(
    call: Call, data_mask: Array, nonzero_data: Array, scale: Array, offset: Array | None = None
) -> Any:
    dense = _shift_scale(call, _fill(data_mask, nonzero_data), scale, offset)
    return data_mask, dense[data_mask != 0]


def _constexpr_cast(call: Call, source_val: Array, output_dtype: str) -> Any:
    return source_val


def _quantize(
    call: Call,
    input: Array,  # the parameter's name is MIL's
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: Any = None,
) -> Any:
    codes = np.rint(widen(input) / _along(widen(scale), input.ndim, axis))
    if zero_point is not None:
        codes = codes + _along(zero_point, input.ndim, axis).astype(np.float32)
    limits = np.iinfo(output_dtype)
    return np.clip(codes, limits.min, limits.max)


def _dequantize(call: Call, input: Array, scale: Array, zero_point: Array | None = None, axis: Any = None) -> Any:
    zero = np.zeros((), np.float32) if zero_point is None else zero_point
    return _affine(call, input, zero, scale, axis)


OPS: dict[str, OpFunction] = {
    "const": _const,
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _shift_scale,
    "constexpr_lut_to_dense": _lut_to_dense,
    "constexpr_sparse_to_dense": _sparse_to_dense,
    "constexpr_lut_to_sparse": _lut_to_sparse,
    "constexpr_sparse_blockwise_shift_scale": _sparse_shift_scale,
    "constexpr_cast": _constexpr_cast,
    "quantize": _quantize,
    "dequantize": _dequantize,
}
