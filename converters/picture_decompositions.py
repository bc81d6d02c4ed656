"""Ops on pictures in terms of more common ones: padding, patches, transposed convolutions, resizing, pooling.

Functions as in `decompositions`, whose tables name the ops that they stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "join_patches",
    "nearest",
    "pad",
    "patches",
    "pool_largest",
    "smooth_bicubic",
    "smooth_bilinear",
    "transposed",
]


def pad(x: Tensor, edges: Sequence[int], value: Any = 0) -> Any:
    """Negative widths of `constant_pad_nd` as slices."""
    import torch

    if not any(isinstance(n, int) and n < 0 for n in edges):
        return NotImplemented
    for pair, axis in enumerate(range(x.dim() - 1, x.dim() - 1 - len(edges) // 2, -1)):
        before, after = (max(0, -n) for n in edges[2 * pair : 2 * pair + 2])
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    wider = [max(0, n) for n in edges]
    return torch.ops.aten.constant_pad_nd(x, wider, value) if any(wider) else x.clone()


def patches(
    x: Tensor, kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Any:
    """Patches as columns: a convolution by kernels that pick one place each."""
    import torch

    if x.dim() != 4 or not isinstance(x.shape[1], int):
        return NotImplemented
    taps = _taps(x.shape[1], kernel)
    return torch.conv2d(x, taps, None, stride, padding, dilation, x.shape[1]).flatten(2)


def _taps(channels: int, kernel: Sequence[int]) -> Tensor:
    """Kernels [channels * places, 1, height, width] that each pick one place."""
    import torch

    places = kernel[0] * kernel[1]
    numbers = torch.arange(places)
    one = (numbers[:, None] == numbers).to(torch.float32)  # eye() becomes an op that LiteRT's runtime lacks
    return one.reshape(places, 1, *kernel).repeat(channels, 1, 1, 1)


def join_patches(
    x: Tensor,
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Any:
    """Columns added up where patches overlap: the transposed convolution by the same kernels."""
    import torch

    if x.dim() != 3 or not isinstance(x.shape[1], int):
        return NotImplemented
    options = list(zip(size, kernel, dilation, padding, stride, strict=True))
    across = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in options]
    beyond = [n - ((a - 1) * s - 2 * p + d * (k - 1) + 1) for a, (n, k, d, p, s) in zip(across, options, strict=True)]
    channels = x.shape[1] // (kernel[0] * kernel[1])
    maps = x.unflatten(2, across)
    return torch.conv_transpose2d(maps, _taps(channels, kernel), None, stride, padding, beyond, channels, dilation)


def transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    output_padding: Sequence[int] = (0,),
    groups: int = 1,
    dilation: Sequence[int] = (1,),
) -> Any:
    """A transposed convolution with padding of its output: in full, then cut or filled up, then the bias."""
    import torch

    axes = weight.dim() - 2
    if not any(output_padding) or x.dim() != axes + 2:
        return NotImplemented
    # The toolkits take an entry for each axis, where torch takes one for all as well.
    sides, more, steps, apart = (
        list(n) * (axes if len(n) == 1 else 1) for n in (padding, output_padding, stride, dilation)
    )
    functions = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
    full = functions[axes - 1](x, weight, None, steps, [0] * axes, [0] * axes, groups, apart)
    edges = [edge for p, o in zip(sides, more, strict=True) for edge in (o - p, -p)][::-1]
    cut = pad(full, edges)
    cut = torch.ops.aten.constant_pad_nd(full, edges, 0.0) if cut is NotImplemented else cut
    return cut if bias is None else cut + bias.reshape(-1, *[1] * axes)


def nearest(x: Tensor, size: Sequence[int] | None, scales: Sequence[float] | None) -> Any:
    """`upsample_nearest2d.vec` by other than whole factors: rows and columns picked by constant indices."""
    import torch

    lengths = x.shape[-2:]
    goals = size if size is not None else [int(n * f) for n, f in zip(lengths, scales or (), strict=True)]
    if not all(isinstance(n, int) for n in (*lengths, *goals)) or all(
        g % n == 0 for g, n in zip(goals, lengths, strict=True)
    ):
        return NotImplemented
    for axis, (goal, length) in zip((-2, -1), zip(goals, lengths, strict=True), strict=True):
        step = length / goal if scales is None else 1 / scales[axis]
        x = x.index_select(axis, (torch.arange(goal, dtype=torch.float32) * step).to(torch.int64).clamp(max=length - 1))
    return x


def smooth_bilinear(x: Tensor, size: Sequence[int], corners: bool, *scales: float | None) -> Any:
    """Resizing with antialias as two products with constant matrices."""
    return _smooth(_triangle, x, size, corners, scales)


def smooth_bicubic(x: Tensor, size: Sequence[int], corners: bool, *scales: float | None) -> Any:
    """Resizing with antialias as two products with constant matrices."""
    return _smooth(_cubic, x, size, corners, scales)


def _smooth(
    taps: Callable[[Tensor], Tensor], x: Tensor, size: Sequence[int], corners: bool, scales: Sequence[float | None]
) -> Any:
    height, width = x.shape[-2:]
    if corners or not all(isinstance(n, int) for n in (height, width, *size)):
        return NotImplemented
    down, across = scales if len(scales) == 2 else (None, None)
    rows, columns = _matrix(taps, height, size[0], down), _matrix(taps, width, size[1], across)
    return rows @ (x @ columns.transpose(0, 1))


def _matrix(taps: Callable[[Tensor], Tensor], size: int, target: int, factor: float | None) -> Tensor:
    """Weights [target, size] of the pixels of one axis, as torch takes them with antialias; rows add up to one."""
    import torch

    step = 1 / factor if factor else size / target
    centres = (torch.arange(target) + 0.5) * step
    places = torch.arange(size) + 0.5
    weights = taps((places - centres[:, None]).abs() / max(step, 1.0))
    return weights / weights.sum(-1, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """The cubic kernel with the slope -0.5 at one, which torch uses with antialias."""
    import torch

    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def pool_largest(x: Tensor, size: Sequence[int]) -> Any:
    """`adaptive_max_pool2d` whose cells are of one size, as plain pooling."""
    import torch

    lengths = x.shape[-2:]
    if not all(isinstance(n, int) and n % g == 0 for n, g in zip(lengths, size, strict=True)):
        return NotImplemented
    cell = [n // g for n, g in zip(lengths, size, strict=True)]
    return torch.ops.aten.max_pool2d_with_indices(x, cell, cell)
