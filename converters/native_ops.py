"""Ops of torch as nodes of a native program: one small function each, by the op's name.

A function takes the lowering, the torch.fx node and its arguments, with nodes of the program for tensors, and returns
the node that holds the result; its dtype and shape are those that torch gave the op.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ferrule.converters.native_graph import CONSTANT, Extent, Node, Unsupported, same_extent, same_shape
from ferrule.converters.native_kernels import KERNELS
from ferrule.converters.native_writes import WRITES

if TYPE_CHECKING:
    from ferrule.converters.native import Lowering

__all__ = ["OPS"]


Maker = Callable[..., Any]


def _axis(node: Node, axis: int) -> int:
    return axis % max(len(node.shape), 1)


def _view(low: Lowering, x: Node, shape: Sequence[Extent]) -> Node:
    return x if same_shape(x.shape, shape) else low.make("reshape", [x], x.dtype, tuple(shape), shape=list(shape))


def _permute(low: Lowering, x: Node, axes: Sequence[int]) -> Node:
    shape = tuple(x.shape[axis] for axis in axes)
    return low.make("permute", [x], x.dtype, shape, axes=list(axes))


def _reshape(low: Lowering, fx: Any, x: Node, *_: Any) -> Node:
    return _view(low, x, low.shape(fx))


def _same(low: Lowering, fx: Any, x: Node, *_: Any, **__: Any) -> Node:
    return x


def _nothing(low: Lowering, fx: Any, *_: Any, **__: Any) -> None:
    return None


def _transpose(low: Lowering, fx: Any, x: Node, a: int, b: int) -> Node:
    axes = list(range(len(x.shape)))
    a, b = _axis(x, a), _axis(x, b)
    axes[a], axes[b] = axes[b], axes[a]
    return _permute(low, x, axes)


def _turn(low: Lowering, fx: Any, x: Node) -> Node:
    rank = len(x.shape)
    return x if rank < 2 else _permute(low, x, [*range(rank - 2), rank - 1, rank - 2])


def _permuted(low: Lowering, fx: Any, x: Node, axes: Sequence[int]) -> Node:
    return _permute(low, x, [_axis(x, axis) for axis in axes])


def _expand(low: Lowering, fx: Any, x: Node, *_: Any, **__: Any) -> Node:
    shape = low.shape(fx)
    return x if same_shape(x.shape, shape) else low.make("expand", [x], x.dtype, shape, shape=list(shape))


def _repeat(low: Lowering, fx: Any, x: Node, counts: Sequence[Any]) -> Node:
    x = _view(low, x, (1,) * (len(counts) - len(x.shape)) + tuple(x.shape))
    for axis, count in enumerate(counts):
        if not isinstance(count, int):
            raise Unsupported("a number of repetitions that depends on lengths")
        if count != 1:
            shape = (*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :])
            x = low.make("concat", [x] * count, x.dtype, shape, axis=axis) if count else low.filled(fx, 0)
    return x


def _slice_node(
    low: Lowering, x: Node, axis: int, start: Extent, end: Extent, shape: Sequence[Extent], step: int = 1
) -> Node:
    if same_shape(x.shape, shape) and step == 1:
        return x
    attributes = {"axis": axis, "start": start, "end": end, "step": step}
    return low.make("slice", [x], x.dtype, tuple(shape), **attributes)


def _slice(low: Lowering, fx: Any, x: Node, axis: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Node:
    axis = _axis(x, axis)
    size = x.shape[axis]
    end = size if end is None or (isinstance(end, int) and end >= 2**62) else end
    return _slice_node(low, x, axis, start or 0, end, low.shape(fx), step)


def _narrow(low: Lowering, fx: Any, x: Node, axis: int, start: Extent, length: Extent) -> Node:
    return _slice_node(low, x, _axis(x, axis), start, start + length, low.shape(fx))


def _select(low: Lowering, fx: Any, x: Node, axis: int, index: Any) -> Node:
    axis = _axis(x, axis)
    if isinstance(index, int) and index < 0:
        index = x.shape[axis] + index
    shape = list(x.shape)
    shape[axis] = 1
    return _view(low, _slice_node(low, x, axis, index, index + 1, shape), low.shape(fx))


def _split(low: Lowering, fx: Any, x: Node, sizes: Any = None, axis: int = 0) -> list[Node]:
    if fx.target.__name__.startswith("unbind"):
        axis = sizes or 0
    axis, start = _axis(x, axis), 0
    parts = []
    for value in fx.meta["val"]:
        shape = low.extents(value.shape)
        whole = list(x.shape)
        whole[axis] = 1 if len(shape) < len(x.shape) else shape[axis]
        part = _slice_node(low, x, axis, start, start + whole[axis], whole)
        parts.append(_view(low, part, shape))
        start = start + whole[axis]
    return parts


def _item(low: Lowering, fx: Any, parts: Sequence[Node], index: int) -> Node:
    return parts[index]


def _cat(low: Lowering, fx: Any, parts: Sequence[Node], axis: int = 0) -> Node:
    kept = [part for part in parts if not same_shape(part.shape, (0,))]
    return low.like("concat", fx, [low.cast(part, low.dtype(fx)) for part in kept], axis=_axis(kept[0], axis))


def _stack(low: Lowering, fx: Any, parts: Sequence[Node], axis: int = 0) -> Node:
    rank = len(parts[0].shape) + 1
    axis %= rank
    shape = list(parts[0].shape)
    shape.insert(axis, 1)
    return low.like("concat", fx, [_view(low, part, shape) for part in parts], axis=axis)


def _pad(low: Lowering, fx: Any, x: Node, widths: Sequence[int], *rest: Any) -> Node:
    value = rest[-1] if rest and not isinstance(rest[-1], str) else 0
    if rest and isinstance(rest[0], str) and rest[0] != "constant":
        raise Unsupported(f"padding of mode {rest[0]!r}")
    for number in range(len(widths) // 2):
        axis = len(x.shape) - 1 - number
        parts = []
        for width, is_before in ((widths[2 * number], True), (widths[2 * number + 1], False)):
            if isinstance(width, int) and width < 0:
                raise Unsupported("padding by negative widths")
            if width != 0:
                shape = (*x.shape[:axis], width, *x.shape[axis + 1 :])
                filled = low.make("fill", [], x.dtype, shape, shape=list(shape), value=float(value or 0), dtype=x.dtype)
                parts.append((is_before, filled))
        if parts:
            joined = [p for before, p in parts if before] + [x] + [p for before, p in parts if not before]
            shape = (*x.shape[:axis], sum(p.shape[axis] for p in joined), *x.shape[axis + 1 :])
            x = low.make("concat", joined, x.dtype, shape, axis=axis)
    return x


def _binary(fn: str, reversed_: bool = False) -> Maker:
    def maker(low: Lowering, fx: Any, a: Any, b: Any, *, alpha: Any = 1, rounding_mode: str | None = None) -> Node:
        name = fn
        if rounding_mode is not None:
            if rounding_mode != "floor":
                raise Unsupported(f"division rounded by {rounding_mode!r}")
            name = "floor_divide"
        if alpha != 1:
            b = b * alpha if not isinstance(b, Node) else low.binary("mul", b, alpha, b.dtype, b.shape)
        if reversed_:
            a, b = b, a
        return low.binary(name, a, b, low.dtype(fx), low.shape(fx))

    return maker


def _compare(fn: str) -> Maker:
    def maker(low: Lowering, fx: Any, a: Any, b: Any) -> Node:
        if not isinstance(b, Node):
            return low.like("compare", fx, [a], fn=fn, value=b)
        dtype = low.common(a, b)
        return low.like("compare", fx, [low.cast(a, dtype), low.cast(b, dtype)], fn=fn)

    return maker


def _logical(fn: str) -> Maker:
    def maker(low: Lowering, fx: Any, *values: Node) -> Node:
        if low.dtype(fx) != "bool":
            raise Unsupported("operations on the bits of numbers")
        return low.like("logical", fx, [low.cast(value, "bool") for value in values], fn=fn)

    return maker


def _unary(fn: str) -> Maker:
    def maker(low: Lowering, fx: Any, x: Node) -> Node:
        return low.like("unary", fx, [low.cast(x, low.dtype(fx))], fn=fn)

    return maker


def _activate(kind: str) -> Maker:
    def maker(low: Lowering, fx: Any, x: Node, *_: Any, approximate: str = "none") -> Node:
        return low.like("activate", fx, [x], kind="gelu_tanh" if approximate == "tanh" else kind)

    return maker


def _clamp(low: Lowering, fx: Any, x: Node, *bounds: Any, **named: Any) -> Node:
    name = fx.target.__name__.partition(".")[0]
    low_bound, high_bound = (*bounds, None, None)[:2]
    low_bound, high_bound = named.get("min", low_bound), named.get("max", high_bound)
    if name.startswith("hardtanh"):
        low_bound, high_bound = (-1 if low_bound is None else low_bound), (1 if high_bound is None else high_bound)
    if name == "clamp_max":
        low_bound, high_bound = None, low_bound if high_bound is None else high_bound
    if (low_bound, high_bound) == (0, 6) and x.dtype == "float32":
        return low.like("activate", fx, [x], kind="relu6")
    for fn, bound in (("max", low_bound), ("min", high_bound)):
        if bound is not None:
            x = low.binary(fn, x, bound, low.dtype(fx), low.shape(fx))
    return x


def _hard_sigmoid(low: Lowering, fx: Any, x: Node) -> Node:
    shape = low.shape(fx)
    y = low.binary("add", low.binary("mul", x, 1 / 6, "float32", shape), 0.5, "float32", shape)
    return low.binary("min", low.binary("max", y, 0.0, "float32", shape), 1.0, "float32", shape)


def _where(low: Lowering, fx: Any, condition: Node, a: Any, b: Any) -> Node:
    return low.like("where", fx, [condition, low.node(a, low.dtype(fx)), low.node(b, low.dtype(fx))])


def _masked_fill(low: Lowering, fx: Any, x: Node, mask: Node, value: Any) -> Node:
    return low.like("where", fx, [mask, low.node(value, low.dtype(fx)), x])


def _to(low: Lowering, fx: Any, x: Node, *_: Any, **__: Any) -> Node:
    return low.cast(x, low.dtype(fx))


def _reduce(fn: str) -> Maker:
    def maker(low: Lowering, fx: Any, x: Node, axes: Any = None, keep: bool = False, **_: Any) -> Node:
        axes = list(range(len(x.shape))) if axes in (None, []) else [axes] if isinstance(axes, int) else axes
        axes = sorted(_axis(x, axis) for axis in axes)
        dtype = "bool" if fn in ("any", "all") else low.dtype(fx)
        return low.like("reduce", fx, [low.cast(x, dtype)], fn=fn, axes=axes, keep=bool(keep))

    return maker


def _norm(low: Lowering, fx: Any, x: Node, order: float = 2, axes: Any = None, keep: bool = False, **_: Any) -> Node:
    if order != 2:
        raise Unsupported(f"a norm of order {order}")
    axes = list(range(len(x.shape))) if axes is None else [axes] if isinstance(axes, int) else axes
    squares = low.binary("mul", x, x, x.dtype, x.shape)
    total = low.like("reduce", fx, [squares], fn="sum", axes=sorted(_axis(x, a) for a in axes), keep=bool(keep))
    return low.like("unary", fx, [total], fn="sqrt")


def _softmax(low: Lowering, fx: Any, x: Node, axis: int, *_: Any) -> Node:
    axis, rank = _axis(x, axis), len(x.shape)
    if axis == rank - 1:
        return low.like("softmax", fx, [low.cast(x, "float32")])
    axes = [*(a for a in range(rank) if a != axis), axis]
    turned = _permute(low, x, axes)
    return _permute(low, low.make("softmax", [turned], x.dtype, turned.shape), [axes.index(a) for a in range(rank)])


def _layer_norm(
    low: Lowering, fx: Any, x: Node, sizes: Sequence[int], w: Any = None, b: Any = None, epsilon: float = 1e-5, *_: Any
) -> Node:
    return low.like("layer_norm", fx, [x], weight=low.tensor(w), bias=low.tensor(b), epsilon=epsilon, axes=len(sizes))


def _rms_norm(
    low: Lowering, fx: Any, x: Node, sizes: Sequence[int], w: Any = None, epsilon: float | None = None
) -> Node:
    if len(sizes) != 1:
        raise Unsupported("an RMS norm over several axes")
    return low.like("rms_norm", fx, [x], weight=low.tensor(w), epsilon=2.0**-23 if epsilon is None else epsilon)


def _linear(low: Lowering, fx: Any, x: Node, weight: Node, bias: Any = None) -> Node:
    if weight.op != CONSTANT:
        rank = len(weight.shape)
        y = low.like("matmul", fx, [x, weight], transpose_b=True)
        return y if bias is None else low.binary("add", y, bias, "float32", low.shape(fx)) if rank == 2 else y
    return low.like(
        "linear", fx, [x], kind="float32", weight=low.tensor(weight), bias=low.tensor(bias), input="float32"
    )


def _addmm(low: Lowering, fx: Any, bias: Node, x: Node, weight: Node) -> Node:
    if weight.op != CONSTANT or weight.tensor is None or bias.op != CONSTANT or len(bias.shape) != 1:
        return low.binary("add", low.like("matmul", fx, [x, weight]), bias, "float32", low.shape(fx))
    turned = weight.tensor.t().contiguous()
    return low.like("linear", fx, [x], kind="float32", weight=turned, bias=low.tensor(bias), input="float32")


def _matmul(low: Lowering, fx: Any, a: Node, b: Node) -> Node:
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise Unsupported("a product with a vector")
    if b.op == CONSTANT and b.tensor is not None and len(b.shape) == 2:
        return low.like("linear", fx, [a], kind="float32", weight=b.tensor.t().contiguous(), input="float32")
    return low.like("matmul", fx, [a, b])


def _coded_linear(
    low: Lowering, fx: Any, x: Node, codes: Node, scales: Node, table: Any, bias: Any, bits: int, group: int,
    activation: int, ranges: Sequence[float],
) -> Node:  # fmt: skip
    attributes: dict[str, Any] = {
        "kind": "affine" if table is None else "lookup", "codes": low.tensor(codes), "scales": low.tensor(scales),
        "table": low.tensor(table), "bias": low.tensor(bias), "bits": bits, "group": group,
        "input": ("float32", "dynamic8", "static8")[activation],
    }  # fmt: skip
    if ranges:
        attributes |= {"input_scale": float(ranges[0]), "input_zero": int(ranges[1])}
    return low.like("linear", fx, [x], **attributes)


def _embedding(low: Lowering, fx: Any, table: Node, indices: Node, *_: Any) -> Node:
    if table.op != CONSTANT:
        return low.like("gather", fx, [table, indices], axis=0)
    return low.like("embedding", fx, [low.cast(indices, "int64")], kind="float32", weight=low.tensor(table))


def _coded_embedding(
    low: Lowering, fx: Any, indices: Node, codes: Node, scales: Node, table: Any, bits: int, group: int
) -> Node:
    attributes = {"kind": "affine", "codes": low.tensor(codes), "scales": low.tensor(scales), "group": group}
    return low.like("embedding", fx, [low.cast(indices, "int64")], **attributes)


def _index_select(low: Lowering, fx: Any, x: Node, axis: int, indices: Node) -> Node:
    return low.like("gather", fx, [x, low.cast(indices, "int64")], axis=_axis(x, axis))


def _index(low: Lowering, fx: Any, x: Node, indices: Sequence[Any]) -> Node:
    given = [(axis, each) for axis, each in enumerate(indices) if each is not None]
    first = given[0][0]
    if any(each.dtype == "bool" for _, each in given):
        raise Unsupported("an index by a mask")
    if [axis for axis, _ in given] != list(range(first, first + len(given))):
        raise Unsupported("an index by several tensors along axes that do not follow each other")
    return low.like("gather", fx, [x, *(low.cast(each, "int64") for _, each in given)], axis=first)


def _gather(low: Lowering, fx: Any, x: Node, axis: int, indices: Node, **_: Any) -> Node:
    axis, indices = _axis(x, axis), low.cast(indices, "int64")
    others = [other for other in range(len(x.shape)) if other != axis]
    if any(indices.shape[other] != 1 for other in others):
        return low.like("gather_elements", fx, [x, indices], axis=axis)
    for other in others:
        x = _slice_node(low, x, other, 0, 1, [*x.shape[:other], 1, *x.shape[other + 1 :]])
    return low.like("gather", fx, [x, _view(low, indices, (indices.shape[axis],))], axis=axis)


def _arange(low: Lowering, fx: Any, *bounds: Any, **_: Any) -> Node:
    start, end, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    start, end, step = (int(b) if isinstance(b, float) and b.is_integer() else b for b in (start, end, step))
    if not isinstance(step, int) or isinstance(start, float) or isinstance(end, float):
        raise Unsupported("a range of fractions")
    return low.like("range", fx, [], start=start, end=end, step=step, dtype=low.dtype(fx))


def _full(low: Lowering, fx: Any, *arguments: Any, **_: Any) -> Node:
    return low.filled(fx, arguments[0] if fx.target.__name__.startswith("scalar_tensor") else arguments[-1])


def _zeros(low: Lowering, fx: Any, *_: Any, **__: Any) -> Node:
    return low.filled(fx, 0)


def _ones(low: Lowering, fx: Any, *_: Any, **__: Any) -> Node:
    return low.filled(fx, 1)


def _attention(
    low: Lowering, fx: Any, q: Node, k: Node, v: Node, mask: Any = None, dropout: float = 0.0, causal: bool = False,
    *, scale: float | None = None, enable_gqa: bool = False,
) -> Node:  # fmt: skip
    if len(q.shape) != 4 or not all(isinstance(each.shape[1], int) for each in (q, k)):
        raise Unsupported("attention over other than four axes")
    if not same_shape(k.shape, v.shape):
        raise Unsupported("attention whose values are not as wide as its keys")
    if causal and not same_extent(q.shape[2], k.shape[2]):
        raise Unsupported("causal attention of other numbers of queries than keys")
    width = q.shape[-1]
    attributes = {
        "heads": q.shape[1], "kv_heads": k.shape[1], "scale": scale or 1 / math.sqrt(width), "causal": bool(causal),
        "layout": "bhsd", "mask": mask is not None,
    }  # fmt: skip
    if mask is not None:
        while len(mask.shape) < 4:
            mask = _view(low, mask, (1, *mask.shape))
    return low.like("attention", fx, [q, k, v, *([] if mask is None else [mask])], **attributes)


def _pair(value: Any) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return [int(values[0]), int(values[-1])]


LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""Axes of pictures with channels last, and first again."""


def _conv(
    low: Lowering, fx: Any, x: Node, weight: Node, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Node:  # fmt: skip
    if weight.op != CONSTANT or weight.tensor is None or isinstance(padding, str):
        raise Unsupported("a convolution with computed weights, or padding told in words")
    top, left = _pair(padding)
    attributes = {
        "kind": "float32", "weight": weight.tensor.permute(0, 2, 3, 1).contiguous(), "bias": low.tensor(bias),
        "stride": _pair(stride), "padding": [top, left, top, left], "dilation": _pair(dilation), "groups": groups,
    }  # fmt: skip
    turned = _permute(low, x, LAST)
    shape = low.shape(fx)
    return _permute(low, low.make("conv", [turned], "float32", tuple(shape[a] for a in LAST), **attributes), FIRST)


def _coded_conv(
    low: Lowering, fx: Any, x: Node, codes: Node, scales: Node, bias: Any, kernel: Sequence[int], stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], groups: int, given: Sequence[float],
) -> Node:  # fmt: skip
    whole = low.tensor(codes)
    attributes = {
        "kind": "affine", "codes": whole.view(len(whole), -1, *kernel).permute(0, 2, 3, 1).contiguous(),
        "scales": low.tensor(scales).flatten(), "bias": low.tensor(bias), "input": "static8",
        "input_scale": float(given[0]), "input_zero": int(given[1]), "stride": list(stride),
        "padding": [*padding, *padding], "dilation": list(dilation), "groups": groups,
    }  # fmt: skip
    turned = _permute(low, x, LAST)
    shape = low.shape(fx)
    return _permute(low, low.make("conv", [turned], "float32", tuple(shape[a] for a in LAST), **attributes), FIRST)


def _pool(
    low: Lowering, fx: Any, x: Node, fn: str, kernel: Any, stride: Any, padding: Any, count_padding: bool
) -> Node:
    top, left = _pair(padding)
    shape, kernel = low.shape(fx), _pair(kernel)
    attributes = {
        "fn": fn, "kernel": kernel, "stride": _pair(stride) if stride not in (None, []) else kernel,
        "padding": [top, left, top, left], "count_padding": count_padding,
    }  # fmt: skip
    turned = _permute(low, x, LAST)
    return _permute(low, low.make("pooling", [turned], "float32", tuple(shape[a] for a in LAST), **attributes), FIRST)


def _max_pool(
    low: Lowering,
    fx: Any,
    x: Node,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> Node:
    if ceil or _pair(dilation) != [1, 1]:
        raise Unsupported("a pooling that is dilated or rounds its size up")
    return _pool(low, fx, x, "max", kernel, stride, padding, False)


def _mean_pool(
    low: Lowering, fx: Any, x: Node, kernel: Any, stride: Any = None, padding: Any = 0, ceil: bool = False,
    count_padding: bool = True, divisor: Any = None,
) -> Node:  # fmt: skip
    if ceil or divisor is not None:
        raise Unsupported("a mean pooling that rounds its size up or has a divisor of its own")
    return _pool(low, fx, x, "mean", kernel, stride, padding, count_padding)


def _global_mean(low: Lowering, fx: Any, x: Node, size: Any) -> Node:
    if _pair(size) != [1, 1]:
        raise Unsupported("an adaptive pooling to other than 1 x 1")
    rank = len(x.shape)
    return low.like("reduce", fx, [x], fn="mean", axes=[rank - 2, rank - 1], keep=True)


def _batch_norm(
    low: Lowering, fx: Any, x: Node, weight: Any, bias: Any, mean: Node, variance: Node, *rest: Any
) -> Node | list[Node]:
    numbers = [each for each in rest if isinstance(each, float)]
    epsilon = numbers[-1]
    scale = (low.tensor(variance) + epsilon).rsqrt()
    scale = scale if weight is None else scale * low.tensor(weight)
    shift = -low.tensor(mean) * scale
    shift = shift if bias is None else shift + low.tensor(bias)
    normed = low.make("channel_affine", [x], x.dtype, x.shape, scale=scale, shift=shift)
    return (
        normed if hasattr(fx.meta["val"], "shape") else [normed]
    )  # one form gives statistics too, which nothing reads


UNARY = (
    "neg", "abs", "exp", "log", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "sigmoid", "erf", "floor", "ceil",
    "round", "sign",
)  # fmt: skip
OPS: dict[str, Maker] = {
    **WRITES,
    **KERNELS,
    "aten.view": _reshape,
    "aten.reshape": _reshape,
    "aten._unsafe_view": _reshape,
    "aten.flatten": _reshape,
    "aten.unsqueeze": _reshape,
    "aten.squeeze": _reshape,
    "aten.unflatten": _reshape,
    "aten.contiguous": _same,
    "aten.clone": _same,
    "aten.alias": _same,
    "aten.detach": _same,
    "aten.dropout": _same,
    "aten.lift_fresh_copy": _same,
    "aten.detach_": _same,
    "aten._assert_tensor_metadata": _nothing,
    "aten.sym_constrain_range_for_size": _nothing,
    "aten._assert_scalar": _nothing,
    "aten.transpose": _transpose,
    "aten.swapaxes": _transpose,
    "aten.t": _turn,
    "aten.numpy_T": _turn,
    "aten.mT": _turn,
    "aten.permute": _permuted,
    "aten.expand": _expand,
    "aten.broadcast_to": _expand,
    "aten.expand_as": _expand,
    "aten.repeat": _repeat,
    "aten.slice": _slice,
    "aten.narrow": _narrow,
    "aten.select": _select,
    "aten.split": _split,
    "aten.split_with_sizes": _split,
    "aten.chunk": _split,
    "aten.unbind": _split,
    "aten.unsafe_split": _split,
    "getitem": _item,
    "aten.cat": _cat,
    "aten.concat": _cat,
    "aten.stack": _stack,
    "aten.constant_pad_nd": _pad,
    "aten.pad": _pad,
    "aten.hardtanh": _clamp,
    "aten.hardtanh_": _clamp,
    "aten.clamp": _clamp,
    "aten.clip": _clamp,
    "aten.clamp_min": _clamp,
    "aten.clamp_max": _clamp,
    "aten.hardsigmoid": _hard_sigmoid,
    "aten.where": _where,
    "aten.masked_fill": _masked_fill,
    "aten.to": _to,
    "aten._to_copy": _to,
    "aten.type_as": _to,
    "aten.float": _to,
    "aten.lift": _to,
    "aten.linalg_vector_norm": _norm,
    "aten.softmax": _softmax,
    "aten._softmax": _softmax,
    "aten._safe_softmax": _softmax,
    "aten.layer_norm": _layer_norm,
    "aten.rms_norm": _rms_norm,
    "aten.linear": _linear,
    "aten.addmm": _addmm,
    "aten.matmul": _matmul,
    "aten.bmm": _matmul,
    "aten.mm": _matmul,
    "ferrule.coded_linear": _coded_linear,
    "ferrule.coded_conv": _coded_conv,
    "aten.embedding": _embedding,
    "ferrule.coded_embedding": _coded_embedding,
    "aten.index_select": _index_select,
    "aten.index": _index,
    "aten.gather": _gather,
    "aten.arange": _arange,
    "aten.full": _full,
    "aten.full_like": _full,
    "aten.scalar_tensor": _full,
    "aten.new_full": _full,
    "aten.zeros": _zeros,
    "aten.zeros_like": _zeros,
    "aten.new_zeros": _zeros,
    "aten.ones": _ones,
    "aten.ones_like": _ones,
    "aten.new_ones": _ones,
    "aten.scaled_dot_product_attention": _attention,
    "aten.conv2d": _conv,
    "aten.max_pool2d": _max_pool,
    "aten.avg_pool2d": _mean_pool,
    "aten.adaptive_avg_pool2d": _global_mean,
    "aten.batch_norm": _batch_norm,
    "aten._native_batch_norm_legit_no_training": _batch_norm,
    "aten.add": _binary("add"),
    "aten.sub": _binary("sub"),
    "aten.mul": _binary("mul"),
    "aten.div": _binary("div"),
    "aten.true_divide": _binary("div"),
    "aten.pow": _binary("pow"),
    "aten.maximum": _binary("max"),
    "aten.minimum": _binary("min"),
    "aten.remainder": _binary("remainder"),
    "aten.floor_divide": _binary("floor_divide"),
    "aten.rsub": _binary("sub", reversed_=True),
    **{f"aten.{fn}": _compare(fn) for fn in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{
        f"aten.{form.format(fn)}": _logical(fn)
        for fn in ("and", "or", "xor", "not")
        for form in ("logical_{}", "bitwise_{}", "__{}__")
    },
    **{f"aten.{fn}": _unary(fn) for fn in UNARY},
    "aten.relu": _activate("relu"),
    "aten.relu_": _activate("relu"),
    "aten.gelu": _activate("gelu"),
    "aten.silu": _activate("silu"),
    "aten.silu_": _activate("silu"),
    "aten.relu6": _activate("relu6"),
    "aten.relu6_": _activate("relu6"),
    "aten.hardswish": _activate("hard_swish"),
    "aten.hardswish_": _activate("hard_swish"),
    "aten.sum": _reduce("sum"),
    "aten.mean": _reduce("mean"),
    "aten.amax": _reduce("max"),
    "aten.amin": _reduce("min"),
    "aten.any": _reduce("any"),
    "aten.all": _reduce("all"),
}
"""By the name of torch's op, whatever its overload."""
