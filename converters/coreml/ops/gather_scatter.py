"""Reading and writing by index. An index out of range is an error here, even where MIL leaves it undefined:
a proof must not rest on what a device is free to do differently.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.converters.coreml.ops.call import Array, Call, OpFunction, widen

__all__ = ["OPS"]


def _checked(call: Call, indices: Array, size: Array | int) -> Array:
    """Indices counted from the front; they may be negative only before iOS 17."""
    whole = indices.astype(np.int64)
    least = -np.asarray(size) if call.negative_indices else 0
    if ((whole < least) | (whole >= size)).any():
        raise IndexError(f"indices {int(whole.min())}…{int(whole.max())} leave [0, {np.max(size)})")
    return np.where(whole < 0, whole + size, whole)


def _gather(
    call: Call, x: Array, indices: Array, axis: Any = 0, batch_dims: Any = 0, validate_indices: Any = False
) -> Any:
    at, batch = int(axis) % x.ndim, int(batch_dims)
    place = _checked(call, np.asarray(indices), x.shape[at])
    if batch == 0:
        return np.take(x, place, axis=at)
    lead = x.shape[:batch]
    rows = x.reshape(-1, *x.shape[batch:])
    picks = place.reshape(-1, *place.shape[batch:])
    taken = [np.take(row, pick, axis=at - batch) for row, pick in zip(rows, picks, strict=True)]
    return np.stack(taken).reshape(*lead, *taken[0].shape)


def _gather_along_axis(call: Call, x: Array, indices: Array, axis: Any = 0, validate_indices: Any = False) -> Any:
    return np.take_along_axis(x, _checked(call, indices, x.shape[int(axis)]), axis=int(axis))


def _gather_nd(call: Call, x: Array, indices: Array, batch_dims: Any = 0, validate_indices: Any = False) -> Any:
    batch, depth = int(batch_dims), indices.shape[-1]
    place = _checked(call, indices, np.array(x.shape[batch : batch + depth]))
    if batch == 0:
        return x[tuple(np.moveaxis(place, -1, 0))]
    rows = x.reshape(-1, *x.shape[batch:])
    picks = place.reshape(-1, *place.shape[batch:])
    taken = [row[tuple(np.moveaxis(pick, -1, 0))] for row, pick in zip(rows, picks, strict=True)]
    return np.stack(taken).reshape(*x.shape[:batch], *taken[0].shape)


_COMBINE = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "max": np.maximum,
    "min": np.minimum,
}


def _write(data: Array, place: tuple[Any, ...], updates: Array, mode: str) -> Array:
    """A copy of data with updates written or combined at a numpy index; repeated indices all count."""
    result = np.array(widen(data))
    if mode == "update":
        result[place] = updates
    elif mode == "div" and result.dtype.kind in "iu":
        raise ValueError("mode 'div' on integers is not defined")
    else:
        _COMBINE[mode].at(result, place, widen(updates))
    return result


def _scatter(
    call: Call,
    data: Array,
    indices: Array,
    updates: Array,
    axis: Any = 0,
    mode: str = "add",
    validate_indices: Any = False,
) -> Any:
    at = int(axis) % data.ndim
    place = _checked(call, np.asarray(indices), data.shape[at])
    return _write(data, (slice(None),) * at + (place,), updates, mode)


def _scatter_along_axis(
    call: Call,
    data: Array,
    indices: Array,
    updates: Array,
    axis: Any = 0,
    mode: str = "add",
    validate_indices: Any = False,
) -> Any:
    at = int(axis) % data.ndim
    grid = list(np.ix_(*(np.arange(n) for n in indices.shape)))
    grid[at] = _checked(call, indices, data.shape[at])
    return _write(data, tuple(grid), updates, mode)


def _scatter_nd(
    call: Call, data: Array, indices: Array, updates: Array, mode: str = "add", validate_indices: Any = False
) -> Any:
    place = _checked(call, indices, np.array(data.shape[: indices.shape[-1]]))
    return _write(data, tuple(np.moveaxis(place, -1, 0)), updates, mode)


OPS: dict[str, OpFunction] = {
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gather_nd": _gather_nd,
    "scatter": _scatter,
    "scatter_along_axis": _scatter_along_axis,
    "scatter_nd": _scatter_nd,
}
