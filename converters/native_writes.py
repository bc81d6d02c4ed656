"""Torch's ops that replace parts of a tensor, as `write` of the program: in place where the tensor is a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ferrule.converters.native_graph import Extent, Node, Unsupported, same_shape

if TYPE_CHECKING:
    from ferrule.converters.native import Lowering

__all__ = ["WRITES"]


def _patch(low: Lowering, x: Node, value: Node, axis: int, count: Extent) -> Node:
    """The value as [..., count, ...] of the other axes of x, of its dtype."""
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    value = low.cast(value, x.dtype)
    return value if same_shape(value.shape, shape) else low.make("expand", [value], x.dtype, shape, shape=list(shape))


def _index_copy(low: Lowering, fx: Any, x: Node, axis: int, index: Node, source: Node) -> Node:
    axis %= len(x.shape)
    (count,) = index.shape or (1,)
    rows = _as(low, low.cast(index, "int64"), (count,))
    return low.like("write", fx, [x, _patch(low, x, source, axis, count), rows], axis=axis)


def _index_put(
    low: Lowering, fx: Any, x: Node, indices: Sequence[Any], value: Node, accumulate: bool = False, *_: Any
) -> Node:
    given = [(axis, each) for axis, each in enumerate(indices) if each is not None]
    if accumulate or len(given) != 1 or given[0][1].dtype == "bool" or len(given[0][1].shape) > 1:
        raise Unsupported("an assignment that adds, or by a mask, or by several indices or axes of them")
    axis, index = given[0]
    if not index.shape and len(value.shape) > len(x.shape) - 1 - axis:  # x[:, 3] = value, whose rows lack the axis
        place = len(value.shape) - (len(x.shape) - 1 - axis)
        value = _as(low, value, (*value.shape[:place], 1, *value.shape[place:]))
    return _index_copy(low, fx, x, axis, index, value)


def _slice_scatter(
    low: Lowering, fx: Any, x: Node, value: Node, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Node:
    axis %= len(x.shape)
    if step != 1:
        raise Unsupported("an assignment to every other row")
    if same_shape(value.shape, x.shape):
        return low.cast(value, x.dtype)
    start = start or 0
    if isinstance(start, int) and start < 0:
        start = x.shape[axis] + start
    return low.like("write", fx, [x, _patch(low, x, value, axis, value.shape[axis])], axis=axis, start=start)


def _select_scatter(low: Lowering, fx: Any, x: Node, value: Node, axis: int, index: Any) -> Node:
    axis %= len(x.shape)
    if isinstance(index, int) and index < 0:
        index = x.shape[axis] + index
    value = _as(low, value, (*value.shape[:axis], 1, *value.shape[axis:]))
    return low.like("write", fx, [x, _patch(low, x, value, axis, 1)], axis=axis, start=index)


def _copy(low: Lowering, fx: Any, x: Node, value: Node, *_: Any) -> Node:
    value = low.cast(value, x.dtype)
    return value if same_shape(value.shape, x.shape) else low.like("expand", fx, [value], shape=list(x.shape))


def _as(low: Lowering, x: Node, shape: Sequence[Extent]) -> Node:
    return x if same_shape(x.shape, shape) else low.make("reshape", [x], x.dtype, tuple(shape), shape=list(shape))


WRITES: Mapping[str, Callable[..., Node]] = {
    "aten.index_copy": _index_copy,
    "aten.index_put": _index_put,
    "aten.slice_scatter": _slice_scatter,
    "aten.select_scatter": _select_scatter,
    "aten.copy": _copy,
}
