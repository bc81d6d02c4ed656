"""Convolution and pooling over one to three spatial dimensions, channels second."""

from __future__ import annotations

from itertools import product
from math import ceil, prod
from typing import Any

import numpy as np

from ferrule.converters.coreml.ops.call import Array, Call, OpFunction, to_list, widen

__all__ = ["OPS"]

Pads = list[tuple[int, int]]


def _pads(pad_type: str, pad: Any, sizes: list[int], spans: list[int], strides: list[int]) -> Pads:
    """Padding before and after each spatial dimension; `spans` are kernel sizes with dilation counted."""
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        given = to_list(pad)
        return list(zip(given[::2], given[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type '{pad_type}' is not one of valid, custom, same, same_lower")
    pairs = []
    for size, span, stride in zip(sizes, spans, strides, strict=True):
        total = max(0, (ceil(size / stride) - 1) * stride + span - size)
        before = (total + 1) // 2 if pad_type == "same_lower" else total // 2
        pairs.append((before, total - before))
    return pairs


def _windows(x: Array, spans: list[int], strides: list[int], dilations: list[int]) -> Array:
    """View of shape [n, c, *outputs, *kernel] of an already padded tensor."""
    rank = len(spans)
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=tuple(range(2, 2 + rank)))
    steps = [slice(None, None, s) for s in strides] + [slice(None, None, d) for d in dilations]
    return view[(slice(None), slice(None), *steps)]


def _conv(
    call: Call,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = None,
    dilations: Any = None,
    groups: Any = 1,
) -> Any:
    rank, parts = x.ndim - 2, int(groups)
    steps = [1] * rank if strides is None else to_list(strides)
    spread = [1] * rank if dilations is None else to_list(dilations)
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], spread, strict=True)]
    pads = _pads(pad_type, pad, list(x.shape[2:]), spans, steps)
    view = _windows(np.pad(widen(x), [(0, 0), (0, 0), *pads]), spans, steps, spread)
    n, out = view.shape[0], view.shape[2 : 2 + rank]
    # [groups, n * outputs, channels * kernel] times [groups, channels * kernel, filters]
    split = view.reshape(n, parts, -1, *view.shape[2:])
    order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    rows = split.transpose(order).reshape(parts, n * prod(out), -1)
    filters = widen(weight).reshape(parts, weight.shape[0] // parts, -1).swapaxes(1, 2)
    made = np.matmul(rows, filters).reshape(parts, n, *out, -1)
    result = made.transpose(1, 0, 2 + rank, *range(2, 2 + rank)).reshape(n, weight.shape[0], *out)
    return result if bias is None else result + widen(bias).reshape(-1, *[1] * rank)


def _conv_transpose(
    call: Call,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Any = None,
    output_shape: Any = None,
    pad_type: str = "valid",
    strides: Any = None,
    dilations: Any = None,
    groups: Any = 1,
) -> Any:
    rank, parts = x.ndim - 2, int(groups)
    steps = [1] * rank if strides is None else to_list(strides)
    spread = [1] * rank if dilations is None else to_list(dilations)
    kernel, sizes = weight.shape[2:], x.shape[2:]
    full = [(i - 1) * s + (k - 1) * d + 1 for i, s, k, d in zip(sizes, steps, kernel, spread, strict=True)]
    start, length = _crop_of_transpose(pad_type, pad, output_shape, list(sizes), steps, full)
    room = [max(f, b + n) for f, b, n in zip(full, start, length, strict=True)]
    filters = widen(weight).reshape(parts, -1, *weight.shape[1:])
    source = widen(x).reshape(x.shape[0], parts, -1, *sizes)
    grown: Array = np.zeros((x.shape[0], parts, weight.shape[1], *room), dtype=np.float32)
    for at in product(*(range(k) for k in kernel)):
        pick: Any = (..., *at)
        part = np.einsum("ngc...,gco->ngo...", source, filters[pick])
        reach: Any = [
            slice(k * d, k * d + (i - 1) * s + 1, s) for k, d, i, s in zip(at, spread, sizes, steps, strict=True)
        ]
        grown[(..., *reach)] += part
    cut: Any = tuple(slice(b, b + n) for b, n in zip(start, length, strict=True))
    result = grown[(..., *cut)].reshape(x.shape[0], -1, *length)
    return result if bias is None else result + widen(bias).reshape(-1, *[1] * rank)


def _crop_of_transpose(
    pad_type: str, pad: Any, output_shape: Any, sizes: list[int], strides: list[int], full: list[int]
) -> tuple[list[int], list[int]]:
    """Where the result starts in the full product, and how long it is."""
    start = [0] * len(full)
    length = full
    if pad_type == "custom":
        given = to_list(pad)
        start = given[::2]
        length = [f - b - a for f, b, a in zip(full, given[::2], given[1::2], strict=True)]
    elif pad_type in ("same", "same_lower"):
        length = [i * s for i, s in zip(sizes, strides, strict=True)]
        start = [max(0, f - n) // 2 for f, n in zip(full, length, strict=True)]
    if output_shape is not None:
        length = to_list(output_shape)[2:]
    return start, length


def _pool_view(x: Array, fill: float, kernel: list[int], steps: list[int], pads: Pads, ceil_mode: bool) -> Array:
    """Windows of a padded tensor; in ceil mode the last window may reach beyond the padding."""
    widths = list(pads)
    if ceil_mode:
        for i, (size, k, s) in enumerate(zip(x.shape[2:], kernel, steps, strict=True)):
            before, after = pads[i]
            count = (size + before + after - k + s - 1) // s + 1
            if (count - 1) * s >= size + before and before + after > 0:
                count -= 1
            widths[i] = (before, max(after, (count - 1) * s + k - size - before))
    padded = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)
    return _windows(padded, kernel, steps, [1] * len(kernel))


def _pool(x: Array, fill: float, options: dict[str, Any]) -> tuple[Array, tuple[int, ...], Pads]:
    kernel = to_list(options["kernel_sizes"])
    given = options.get("strides")
    steps = [1] * len(kernel) if given is None else to_list(given)
    pads = _pads(str(options["pad_type"]), options.get("pad"), list(x.shape[2:]), kernel, steps)
    view = _pool_view(x, fill, kernel, steps, pads, bool(options.get("ceil_mode", False)))
    return view, tuple(range(-len(kernel), 0)), pads


def _max_pool(call: Call, x: Array, **options: Any) -> Any:
    view, axes, _ = _pool(widen(x), -np.inf, options)
    return view.max(axis=axes)


def _l2_pool(call: Call, x: Array, **options: Any) -> Any:
    view, axes, _ = _pool(np.square(widen(x)), 0.0, options)
    return np.sqrt(view.sum(axis=axes))


def _avg_pool(call: Call, x: Array, exclude_padding_from_average: Any = False, **options: Any) -> Any:
    view, axes, pads = _pool(widen(x), 0.0, options)
    ones = np.ones((1, 1, *x.shape[2:]), dtype=np.float32)
    if bool(exclude_padding_from_average):
        counts, _, _ = _pool(ones, 0.0, options)
    else:
        # padding counts, but not what ceil mode adds beyond it
        counted = np.pad(ones, [(0, 0), (0, 0), *pads], constant_values=1.0)
        kernel = to_list(options["kernel_sizes"])
        given = options.get("strides")
        steps = [1] * len(kernel) if given is None else to_list(given)
        reach = [
            (0, max(0, (out - 1) * s + k - n))
            for out, s, k, n in zip(view.shape[2:], steps, kernel, counted.shape[2:], strict=False)
        ]
        counts = _windows(np.pad(counted, [(0, 0), (0, 0), *reach]), kernel, steps, [1] * len(kernel))
    return view.sum(axis=axes) / counts.sum(axis=axes)


OPS: dict[str, OpFunction] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "l2_pool": _l2_pool,
}
