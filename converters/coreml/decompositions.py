"""Ops of core ATen that coremltools lacks, in terms of those that it has, and those that it takes better whole.

Every function is traced on fake tensors, and may return NotImplemented to leave an op to coremltools or its refusal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["WHOLE", "make_table"]

WHOLE = ("scaled_dot", "aten.linear", "aten.roll.", "aten.grid_sampler.", "aten.hardsigmoid.", "aten.hardswish.")
"""coremltools translates these by one or a few ops of MIL. torch's own decompositions are index arithmetic with `fmod`
for a roll, four gathers for a grid, and clamps for the two gates."""


def make_table() -> dict[Any, Callable[..., Any]]:
    """Op -> decomposition: torch's own without those of `WHOLE`, and ours."""
    import torch

    table: dict[Any, Callable[..., Any]] = dict(torch.export.default_decompositions().items())
    for op in [op for op in table if any(name in str(op) for name in WHOLE)]:
        table.pop(op)
    aten = torch.ops.aten
    return table | {
        aten.trunc.default: _trunc,
        aten.fmod.Tensor: _fmod,
        aten.fmod.Scalar: _fmod,
        aten.div.Scalar_mode: _div_mode,
        aten.div.Tensor_mode: _div_mode,
        aten.isinf.default: _isinf,
        aten.bitwise_or.Tensor: _either,
        aten.bitwise_xor.Tensor: _one_of,
        aten._cdist_forward.default: _distances,
        aten.constant_pad_nd.default: _pad,
        aten.convolution.default: _convolution,
        aten.diagonal.default: _diagonal,
        aten.diagonal_copy.default: _diagonal,
        aten.unfold.default: _windows,
        aten.unfold_copy.default: _windows,
        aten.im2col.default: _patches,
        aten.col2im.default: _join_patches,
        aten.index_add.default: _index_add,
        aten.masked_scatter.default: _masked_scatter,
        aten.lerp.Scalar: _between,
        aten.lerp.Tensor: _between,
        aten.hypot.default: _hypotenuse,
        aten.copysign.Tensor: _with_sign,
        aten.bucketize.Tensor: _bucket,
        aten.searchsorted.Tensor: _search,
        aten._upsample_bilinear2d_aa.default: _smooth(_triangle),
        aten._upsample_bicubic2d_aa.default: _smooth(_cubic),
    }


def _trunc(x: Tensor) -> Tensor:
    return x if not x.is_floating_point() else x.sign() * x.abs().floor()


def _fmod(x: Tensor, y: Any) -> Any:
    """The remainder with the dividend's sign, of floats."""
    if not x.is_floating_point():
        return NotImplemented
    return x - _trunc(x / y) * y


def _div_mode(x: Tensor, y: Any, *, rounding_mode: str | None = None) -> Any:
    """Of floats: coremltools looks the mode's name up among the graph's values, where `floor` may be another."""
    if rounding_mode is None:
        return x / y
    if not x.is_floating_point():
        return NotImplemented
    return (x / y).floor() if rounding_mode == "floor" else _trunc(x / y)


def _isinf(x: Tensor) -> Any:
    import torch

    if not x.is_floating_point():
        return torch.zeros_like(x, dtype=torch.bool)
    return x.abs() == float("inf")


def _either(x: Tensor, y: Tensor) -> Any:
    import torch

    return x.logical_or(y) if x.dtype == y.dtype == torch.bool else NotImplemented


def _one_of(x: Tensor, y: Tensor) -> Any:
    import torch

    return x.logical_xor(y) if x.dtype == y.dtype == torch.bool else NotImplemented


def _distances(x: Tensor, y: Tensor, p: float, mode: int | None = None) -> Any:
    """Distances [..., n, m] between rows [..., n, d] and [..., m, d], from their differences."""
    apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == math.inf:
        return apart.amax(-1)
    if p in (1.0, 2.0):
        return apart.sum(-1) if p == 1.0 else (apart * apart).sum(-1).sqrt()
    return apart.pow(p).sum(-1).pow(1 / p) if p > 0 else NotImplemented


def _pad(x: Tensor, pad: Sequence[int], value: Any = 0) -> Any:
    """Negative widths as slices, which MIL's padding lacks."""
    import torch

    if not any(isinstance(n, int) and n < 0 for n in pad):
        return NotImplemented
    for pair, axis in enumerate(range(x.dim() - 1, x.dim() - 1 - len(pad) // 2, -1)):
        before, after = (max(0, -n) for n in pad[2 * pair : 2 * pair + 2])
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return torch.ops.aten.constant_pad_nd(x, [max(0, n) for n in pad], value)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    """A transposed one with padding of its output: in full, then cut; coremltools fails where the other padding is 0."""
    import torch

    if not transposed or not any(output_padding):
        return NotImplemented
    none = [0] * len(padding)
    full = torch.ops.aten.convolution(x, weight, None, stride, none, dilation, True, none, groups)
    edges = [edge for p, o in zip(padding, output_padding, strict=True) for edge in (o - p, -p)]
    cut = torch.ops.aten.constant_pad_nd(full, edges[::-1], 0.0)
    return cut if bias is None else cut + bias.reshape(-1, *[1] * len(padding))


def _diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """Every (columns + 1)th element of the flattened planes."""
    planes = x.movedim((dim1, dim2), (-2, -1))
    rows, columns = planes.shape[-2:]
    first, count = (offset, min(rows, columns - offset)) if offset >= 0 else (-offset * columns, min(rows + offset, columns))
    if count < 1 or not isinstance(rows, int) or not isinstance(columns, int):
        return NotImplemented
    last = first + (count - 1) * (columns + 1) + 1
    return planes.flatten(-2)[..., first : last : columns + 1]


def _windows(x: Tensor, dimension: int, size: int, step: int) -> Any:
    """Windows along one axis, their places in a new last one: a gather with constant indices."""
    import torch

    axis = dimension % x.dim()
    length = x.shape[axis]
    if not isinstance(length, int):
        return NotImplemented
    starts = torch.arange(0, length - size + 1, step, device=x.device)
    places = (starts[:, None] + torch.arange(size, device=x.device)).flatten()
    return x.index_select(axis, places).unflatten(axis, (-1, size)).movedim(axis + 1, -1)


def _taps(channels: int, kernel: Sequence[int]) -> Tensor:
    """Kernels [channels * places, 1, height, width] that each pick one place."""
    import torch

    places = kernel[0] * kernel[1]
    return torch.eye(places).reshape(places, 1, *kernel).repeat(channels, 1, 1, 1)


def _patches(
    x: Tensor, kernel: Sequence[int], dilation: Sequence[int], padding: Sequence[int], stride: Sequence[int]
) -> Any:
    """Patches as columns: a convolution by kernels that pick one place each."""
    import torch

    if x.dim() != 4 or not isinstance(x.shape[1], int):
        return NotImplemented
    taps = _taps(x.shape[1], kernel)
    return torch.conv2d(x, taps, None, stride, padding, dilation, x.shape[1]).flatten(2)


def _join_patches(
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


def _index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Any:
    axis = dim % x.dim()
    shape = [-1 if i == axis else 1 for i in range(x.dim())]
    return x.scatter_add(axis, index.reshape(shape).expand_as(source), source * alpha if alpha != 1 else source)


def _masked_scatter(x: Tensor, mask: Tensor, source: Tensor) -> Any:
    """The nth place of the mask takes the nth element of the source; counts are exact to 2048 in half precision."""
    import torch

    mask, x = torch.broadcast_tensors(mask, x)
    if not isinstance(mask.numel(), int) or mask.numel() > 2048:
        return NotImplemented
    places = (mask.flatten().float().cumsum(0) - 1).clamp(min=0).to(torch.int32)
    return torch.where(mask, source.flatten().index_select(0, places).reshape(x.shape), x)


def _between(x: Tensor, y: Tensor, weight: Any) -> Tensor:
    return x + weight * (y - x)


def _hypotenuse(x: Tensor, y: Tensor) -> Tensor:
    return (x * x + y * y).sqrt()


def _with_sign(x: Tensor, y: Tensor) -> Tensor:
    """A negative zero counts as positive."""
    import torch

    return torch.where(y < 0, -x.abs(), x.abs())


def _bucket(x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    import torch

    counted = boundaries <= x.unsqueeze(-1) if right else boundaries < x.unsqueeze(-1)
    return counted.to(torch.int32).sum(-1).to(torch.int32 if out_int32 else torch.int64)


def _search(
    ordered: Tensor, x: Tensor, *, out_int32: bool = False, right: bool = False, side: Any = None, sorter: Any = None
) -> Any:
    if ordered.dim() != 1 or sorter is not None:
        return NotImplemented
    return _bucket(x, ordered, out_int32=out_int32, right=right or side == "right")


def _smooth(taps: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Resizing with antialias as two products with constant matrices: coremltools would leave the smoothing out."""

    def resize(x: Tensor, size: Sequence[int], corners: bool, *scales: float | None) -> Any:
        height, width = x.shape[-2:]
        if corners or not all(isinstance(n, int) for n in (height, width, *size)):
            return NotImplemented
        down, across = scales if len(scales) == 2 else (None, None)
        rows, columns = _matrix(taps, height, size[0], down), _matrix(taps, width, size[1], across)
        return rows @ (x @ columns.transpose(0, 1))

    return resize


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
