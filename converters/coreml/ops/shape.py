"""Ops that make, join, cut or rearrange tensors without arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.converters.coreml.ops.call import Array, Call, OpFunction, axes_of, to_list, widen

__all__ = ["OPS"]


def _identity(call: Call, x: Any) -> Any:
    return x


def _reshape(call: Call, x: Array, shape: Array) -> Any:
    target = to_list(shape)
    if x.size and len(target) == x.ndim:  # 0 keeps the dimension
        target = [old if new == 0 else new for old, new in zip(x.shape, target, strict=True)]
    return x.reshape(target)


def _reshape_like(call: Call, x: Array, ref_tensors: Any, begins: Any, ends: Any, end_masks: Any) -> Any:
    target: list[int] = []
    for ref, begin, end, mask in zip(ref_tensors, begins, ends, end_masks, strict=True):
        target += ref.shape[int(begin) : None if bool(mask) else int(end)]
    return x.reshape(target)


def _transpose(call: Call, x: Array, perm: Array) -> Any:
    return x.transpose(to_list(perm))


def _expand_dims(call: Call, x: Array, axes: Array) -> Any:
    return np.expand_dims(x, tuple(to_list(axes)))


def _squeeze(call: Call, x: Array, axes: Any = None) -> Any:
    return x.squeeze(tuple(a for a in axes_of(axes, x.ndim) if x.shape[a] == 1))


def _concat(call: Call, values: tuple[Array, ...], axis: Any, interleave: Any = False) -> Any:
    values = tuple(np.atleast_1d(v) for v in values)  # scalars join to a vector
    at = int(axis) % values[0].ndim
    if not bool(interleave):
        return np.concatenate(values, axis=at)
    shape = list(values[0].shape)
    shape[at] *= len(values)
    return np.stack(values, axis=at + 1).reshape(shape)


def _stack(call: Call, values: tuple[Array, ...], axis: Any) -> Any:
    return np.stack(values, axis=int(axis))


def _split(call: Call, x: Array, axis: Any, num_splits: Any = None, split_sizes: Any = None) -> Any:
    if split_sizes is None:
        return tuple(np.split(x, int(num_splits), axis=int(axis)))
    return tuple(np.split(x, np.cumsum(to_list(split_sizes))[:-1], axis=int(axis)))


def _slices(
    shape: tuple[int, ...],
    begin: Any,
    end: Any,
    stride: Any,
    begin_mask: Any,
    end_mask: Any,
    squeeze_mask: Any,
) -> tuple[slice | int, ...]:
    """A numpy index: a masked bound is left open, a squeezed dimension is indexed and dropped."""
    rank = len(shape)
    steps = [1] * rank if stride is None else to_list(stride)
    flags = [[0] * rank if m is None else to_list(m) for m in (begin_mask, end_mask, squeeze_mask)]
    index: list[slice | int] = []
    for i, (b, e) in enumerate(zip(to_list(begin), to_list(end), strict=True)):
        if flags[2][i]:
            index.append(0 if flags[0][i] else b)
        else:
            index.append(slice(None if flags[0][i] else b, None if flags[1][i] else e, steps[i]))
    return tuple(index)


def _slice_by_index(
    call: Call,
    x: Array,
    begin: Array,
    end: Array,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Any:
    return x[_slices(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


def _slice_update(
    call: Call,
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Any:
    result = x.copy()
    window = result[_slices(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)]
    if window.shape != update.shape:
        raise ValueError(f"an update of shape {update.shape} does not fit a slice of shape {window.shape}")
    window[...] = update
    return result


def _slice_by_size(call: Call, x: Array, begin: Array, size: Array) -> Any:
    index = []
    for b, s, n in zip(to_list(begin), to_list(size), x.shape, strict=True):
        start = b + n if b < 0 else b
        index.append(slice(start, n if s == -1 else start + s))
    return x[tuple(index)]


def _tile(call: Call, x: Array, reps: Array) -> Any:
    return np.tile(x, to_list(reps))


def _fill(call: Call, shape: Array, value: Any = 0.0) -> Any:
    return np.full(to_list(shape), value)


def _fill_like(call: Call, ref_tensor: Array, value: Any = 0.0) -> Any:
    return np.full(ref_tensor.shape, value)


def _shape(call: Call, x: Array) -> Any:
    return np.array(x.shape, dtype=np.int32)


def _range(call: Call, start: Array, end: Array, step: Array) -> Any:
    return np.arange(*(widen(np.asarray(v)).item() for v in (start, end, step)))


def _one_hot(
    call: Call,
    indices: Array,
    one_hot_vector_size: Any,
    axis: Any = -1,
    on_value: Any = 1,
    off_value: Any = 0,
) -> Any:
    place = int(axis) % (indices.ndim + 1)
    labels = np.arange(int(one_hot_vector_size)).reshape([-1 if i == place else 1 for i in range(indices.ndim + 1)])
    return np.where(np.expand_dims(indices, place) == labels, on_value, off_value)


def _band_part(call: Call, x: Array, lower: Any = -1, upper: Any = -1) -> Any:
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])[None, :]
    inside = np.ones((x.shape[-2], x.shape[-1]), dtype=np.bool_)
    if int(lower) >= 0:
        inside &= rows - columns <= int(lower)
    if int(upper) >= 0:
        inside &= columns - rows <= int(upper)
    return np.where(inside, x, np.zeros((), x.dtype))


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


def _pad(call: Call, x: Array, pad: Array, mode: str = "constant", constant_val: Any = 0.0) -> Any:
    sizes = to_list(pad)
    pairs = list(zip(sizes[::2], sizes[1::2], strict=True))
    widths = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, widths, constant_values=np.asarray(constant_val, dtype=x.dtype).item())
    return np.pad(x, widths, mode=_PAD_MODES[mode])  # type: ignore[call-overload]


def _reverse(call: Call, x: Array, axes: Any = None) -> Any:
    return np.flip(x, axes_of(axes, x.ndim))


def _non_zero(call: Call, x: Array) -> Any:
    return np.argwhere(x)


def _flatten2d(call: Call, x: Array, axis: Any = 1) -> Any:
    at = int(axis) if int(axis) >= 0 else int(axis) + x.ndim
    return x.reshape(int(np.prod(x.shape[:at])), -1)


def _sliding_windows(call: Call, x: Array, axis: Any, size: Any, stride: Any = 1) -> Any:
    at = int(axis) % x.ndim
    windows = np.lib.stride_tricks.sliding_window_view(x, int(size), axis=at)
    return np.moveaxis(windows, -1, at + 1)[(slice(None),) * at + (slice(None, None, int(stride)),)]


def _to_space(x: Array, f: int, block_first: bool) -> Array:
    n, c, h, w = x.shape
    if block_first:
        parts = x.reshape(n, f, f, c // (f * f), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // (f * f), f, f, h, w).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // (f * f), h * f, w * f)


def _to_depth(x: Array, f: int, block_first: bool) -> Array:
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if block_first else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // f, f, w // f, f).transpose(order).reshape(n, c * f * f, h // f, w // f)


def _depth_to_space(call: Call, x: Array, block_size: Any) -> Any:
    return _to_space(x, int(block_size), block_first=True)


def _space_to_depth(call: Call, x: Array, block_size: Any) -> Any:
    return _to_depth(x, int(block_size), block_first=True)


def _pixel_shuffle(call: Call, x: Array, upscale_factor: Any) -> Any:
    return _to_space(x, int(upscale_factor), block_first=False)


def _pixel_unshuffle(call: Call, x: Array, downscale_factor: Any) -> Any:
    return _to_depth(x, int(downscale_factor), block_first=False)


OPS: dict[str, OpFunction] = {
    "identity": _identity,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "concat": _concat,
    "stack": _stack,
    "split": _split,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "slice_update": _slice_update,
    "tile": _tile,
    "fill": _fill,
    "fill_like": _fill_like,
    "shape": _shape,
    "range_1d": _range,
    "one_hot": _one_hot,
    "band_part": _band_part,
    "pad": _pad,
    "reverse": _reverse,
    "non_zero": _non_zero,
    "flatten2d": _flatten2d,
    "sliding_windows": _sliding_windows,
    "depth_to_space": _depth_to_space,
    "space_to_depth": _space_to_depth,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
}
