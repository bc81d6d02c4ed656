"""Resizing of the last two dimensions: nearest neighbour and bilinear, with MIL's sampling modes."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np

from ferrule.converters.coreml.ops.call import Array, Call, OpFunction, to_list, widen

__all__ = ["OPS"]


def _points(size: int, target: int, mode: str) -> Array:
    """Where each output element reads its input, as fractions of an index, clipped to the input."""
    i = np.arange(target, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if target == 1:
            at: Array = np.array([(size - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0])
        else:
            at = i * (size - 1) / (target - 1)
    elif mode == "DEFAULT":
        at = i * size / target
    elif mode == "OFFSET_CORNERS":
        at = (i + 0.5) * max(1, size - 1) / target
    elif mode == "UNALIGN_CORNERS":
        at = (i + 0.5) * size / target - 0.5
    else:
        raise ValueError(f"sampling mode '{mode}' is not known")
    clipped: Array = np.clip(at, 0, size - 1)
    return clipped


def _linear_along(x: Array, axis: int, points: Array) -> Array:
    low = np.floor(points).astype(np.intp)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    shape = [1] * x.ndim
    shape[axis] = -1
    share = (points - low).astype(np.float32).reshape(shape)
    result: Array = x.take(low, axis=axis) * (1 - share) + x.take(high, axis=axis) * share
    return result


def _nearest_along(x: Array, axis: int, target: int) -> Array:
    index = np.minimum(np.arange(target) * x.shape[axis] // target, x.shape[axis] - 1)
    result: Array = x.take(index, axis=axis)
    return result


def _bilinear(x: Array, height: int, width: int, mode: str) -> Array:
    wide = widen(x)
    rows = _linear_along(wide, x.ndim - 2, _points(x.shape[-2], height, mode))
    return _linear_along(rows, x.ndim - 1, _points(x.shape[-1], width, mode))


def _nearest(x: Array, height: int, width: int) -> Array:
    return _nearest_along(_nearest_along(x, x.ndim - 2, height), x.ndim - 1, width)


def _upsample_nearest(call: Call, x: Array, scale_factor_height: Any = 1, scale_factor_width: Any = 1) -> Any:
    return _nearest(x, *_scaled(x, scale_factor_height, scale_factor_width))


def _scaled(x: Array, height: Any, width: Any) -> tuple[int, int]:
    return floor(x.shape[-2] * float(height)), floor(x.shape[-1] * float(width))


def _upsample_bilinear(
    call: Call,
    x: Array,
    scale_factor_height: Any = 1,
    scale_factor_width: Any = 1,
    align_corners: Any = True,
    half_pixel_centers: Any = None,
) -> Any:
    corners = bool(align_corners)
    centred = not corners if half_pixel_centers is None else bool(half_pixel_centers)
    if corners and centred:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if corners else ("UNALIGN_CORNERS" if centred else "DEFAULT")
    return _bilinear(x, *_scaled(x, scale_factor_height, scale_factor_width), mode)


def _resize_nearest(call: Call, x: Array, target_size_height: Any, target_size_width: Any) -> Any:
    return _nearest(x, int(target_size_height), int(target_size_width))


def _resize_bilinear(
    call: Call,
    x: Array,
    target_size_height: Any = 1,
    target_size_width: Any = 1,
    sampling_mode: str = "DEFAULT",
) -> Any:
    return _bilinear(x, int(target_size_height), int(target_size_width), sampling_mode)


def _resize(
    call: Call,
    x: Array,
    shape: Array,
    resized_dims: Any,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Any:
    count = int(resized_dims)
    targets = to_list(shape)[len(to_list(shape)) - count :]
    result = widen(x)
    for axis, target in zip(range(x.ndim - count, x.ndim), targets, strict=True):
        size = x.shape[axis]
        goal = target or size
        if interpolation_mode == "LINEAR":
            result = _linear_along(result, axis, _points(size, goal, sampling_mode))
        elif interpolation_mode == "NEAREST_NEIGHBOR" and sampling_mode == "DEFAULT":
            result = _nearest_along(result, axis, goal)
        else:
            raise ValueError(f"resize by {interpolation_mode} with {sampling_mode} is not known")
    return result


def _crop(call: Call, x: Array, crop_height: Array, crop_width: Array) -> Any:
    (top, bottom), (left, right) = to_list(crop_height), to_list(crop_width)
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def _resample(
    call: Call,
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: Any,
    coordinates_mode: str,
    align_corners: Any,
) -> Any:
    """Values of x [b, c, h, w] at coordinates [b, h', w', 2], given as (x, y); the padding value counts beyond it."""
    height, width = x.shape[-2:]
    places = widen(coordinates)
    column = _to_pixels(places[..., 0], width, coordinates_mode, bool(align_corners))
    row = _to_pixels(places[..., 1], height, coordinates_mode, bool(align_corners))
    if sampling_mode == "nearest":
        corners = [(np.rint(row), np.rint(column), np.ones_like(row))]
    elif sampling_mode == "bilinear":
        top, left = np.floor(row), np.floor(column)
        down, across = row - top, column - left
        corners = [
            (top, left, (1 - down) * (1 - across)),
            (top, left + 1, (1 - down) * across),
            (top + 1, left, down * (1 - across)),
            (top + 1, left + 1, down * across),
        ]
    else:
        raise ValueError(f"resample by {sampling_mode} is not known")
    parts = [_look_up(widen(x), r, c, padding_mode, float(padding_value)) * w[:, None] for r, c, w in corners]
    return np.sum(parts, axis=0)


def _to_pixels(places: Array, size: int, mode: str, corners: bool) -> Array:
    """Coordinates along one axis in pixels."""
    if mode == "unnormalized":
        return places
    unit = places if mode == "normalized_zero_to_one" else (places + 1) / 2
    result: Array = unit * (size - 1) if corners else unit * size - 0.5
    return result


def _look_up(x: Array, rows: Array, columns: Array, padding: str, beyond: float) -> Array:
    height, width = x.shape[-2:]
    if padding not in ("constant", "border"):
        raise ValueError(f"resample with {padding} padding is not known")
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    r = np.clip(rows, 0, height - 1).astype(np.int64)
    c = np.clip(columns, 0, width - 1).astype(np.int64)
    picked: Array = np.stack([x[b][:, r[b], c[b]] for b in range(x.shape[0])])
    return picked if padding == "border" else np.where(inside[:, None], picked, np.float32(beyond))


OPS: dict[str, OpFunction] = {
    "crop": _crop,
    "resample": _resample,
    "upsample_nearest_neighbor": _upsample_nearest,
    "upsample_bilinear": _upsample_bilinear,
    "resize_nearest_neighbor": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "resize": _resize,
}
