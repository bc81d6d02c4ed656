"""Ops of torch in terms of more common ones, for toolkits that lack them or get them wrong.

Every function is traced on fake tensors and computes the same as its op, in any order of sums; it returns
NotImplemented where it cannot, and the op then stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

__all__ = [
    "bucket",
    "diagonal",
    "distances",
    "for_executorch",
    "for_litert",
    "join_patches",
    "nearest",
    "pad",
    "patches",
    "pool_largest",
    "running_product",
    "search",
    "simplify",
    "smooth_bicubic",
    "smooth_bilinear",
    "spread_rows",
    "transposed",
    "windows",
]


def simplify(program: ExportedProgram, table: Mapping[Any, Callable[..., Any]]) -> ExportedProgram:
    """The program with those ops of the table that it has decomposed; one that has none comes back as it is."""
    found = {node.target for node in program.graph.nodes if node.op == "call_function"} & set(table)
    return program.run_decompositions({op: table[op] for op in table if op in found}) if found else program


def for_litert() -> dict[Any, Callable[..., Any]]:
    """Lacking are transposed convolutions with padding of their output, joined patches, sums by index and running

    products; a nearest resize by other than whole factors reads other rows than torch does.
    """
    import torch

    aten = torch.ops.aten
    return _for_both() | {
        aten.upsample_nearest2d.vec: nearest,
        aten._upsample_bilinear2d_aa.vec: _sized(smooth_bilinear),
        aten._upsample_bicubic2d_aa.vec: _sized(smooth_bicubic),
        aten.col2im.default: join_patches,
        aten.conv_transpose1d.default: transposed,
        aten.conv_transpose2d.input: transposed,
        aten.index_add.default: spread_rows,
    }


def for_executorch() -> dict[Any, Callable[..., Any]]:
    """Kernels are lacking, padding by negative widths fails where it runs, and whole remainders take C's sign."""
    import torch

    aten = torch.ops.aten
    return _for_both() | {
        aten.pad.default: _pad_or_cut,
        aten.remainder.Scalar: _remainder,
        aten.remainder.Tensor: _remainder,
    }


def _for_both() -> dict[Any, Callable[..., Any]]:
    import torch

    aten = torch.ops.aten
    return {
        aten.adaptive_max_pool2d.default: pool_largest,
        aten.cumprod.default: running_product,
        aten.bucketize.Tensor: bucket,
        aten.searchsorted.Tensor: search,
        aten.one_hot.default: _one_hot,
    }


def _one_hot(x: Tensor, classes: int = -1) -> Any:
    """Without the check of torch that every index is below the number of classes."""
    import torch

    if classes < 1:
        return NotImplemented
    return (x.unsqueeze(-1) == torch.arange(classes, device=x.device)).to(torch.int64)


def _remainder(x: Tensor, y: Any) -> Any:
    whole = not x.is_floating_point() and not (y.is_floating_point() if hasattr(y, "dtype") else isinstance(y, float))
    return x - x.div(y, rounding_mode="floor") * y if whole else NotImplemented


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


def _sized(resize: Callable[..., Any]) -> Callable[..., Any]:
    """A resize that is given a size or factors, by one that takes both."""

    def resized(x: Tensor, size: Sequence[int] | None, corners: bool, factors: Sequence[float] | None) -> Any:
        goals = size if size is not None else [int(n * f) for n, f in zip(x.shape[-2:], factors or (), strict=True)]
        return resize(x, goals, corners, *(factors or (None, None)))

    return resized


def _pad_or_cut(x: Tensor, edges: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    return pad(x, edges, value or 0.0) if mode == "constant" else NotImplemented


def distances(x: Tensor, y: Tensor, p: float, mode: int | None = None) -> Any:
    """Distances [..., n, m] between rows [..., n, d] and [..., m, d], from their differences."""
    apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == math.inf:
        return apart.amax(-1)
    if p in (1.0, 2.0):
        return apart.sum(-1) if p == 1.0 else (apart * apart).sum(-1).sqrt()
    return apart.pow(p).sum(-1).pow(1 / p) if p > 0 else NotImplemented


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


def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """Every (columns + 1)th element of the flattened planes."""
    planes = x.movedim((dim1, dim2), (-2, -1))
    rows, columns = planes.shape[-2:]
    first, count = (
        (offset, min(rows, columns - offset)) if offset >= 0 else (-offset * columns, min(rows + offset, columns))
    )
    if count < 1 or not isinstance(rows, int) or not isinstance(columns, int):
        return NotImplemented
    last = first + (count - 1) * (columns + 1) + 1
    return planes.flatten(-2)[..., first : last : columns + 1]


def windows(x: Tensor, dimension: int, size: int, step: int) -> Any:
    """Windows along one axis, their places in a new last one: a gather with constant indices."""
    import torch

    axis = dimension % x.dim()
    length = x.shape[axis]
    if not isinstance(length, int):
        return NotImplemented
    starts = torch.arange(0, length - size + 1, step, device=x.device)
    places = (starts[:, None] + torch.arange(size, device=x.device)).flatten()
    return x.index_select(axis, places).unflatten(axis, (-1, size)).movedim(axis + 1, -1)


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


def bucket(x: Tensor, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    import torch

    counted = boundaries <= x.unsqueeze(-1) if right else boundaries < x.unsqueeze(-1)
    return counted.to(torch.int32).sum(-1).to(torch.int32 if out_int32 else torch.int64)


def search(
    ordered: Tensor, x: Tensor, *, out_int32: bool = False, right: bool = False, side: Any = None, sorter: Any = None
) -> Any:
    if ordered.dim() != 1 or sorter is not None:
        return NotImplemented
    return bucket(x, ordered, out_int32=out_int32, right=right or side == "right")


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


def pool_largest(x: Tensor, size: Sequence[int]) -> Any:
    """`adaptive_max_pool2d` whose cells are of one size, as plain pooling."""
    import torch

    lengths = x.shape[-2:]
    if not all(isinstance(n, int) and n % g == 0 for n, g in zip(lengths, size, strict=True)):
        return NotImplemented
    cell = [n // g for n, g in zip(lengths, size, strict=True)]
    return torch.ops.aten.max_pool2d_with_indices(x, cell, cell)


def running_product(x: Tensor, dim: int, *, dtype: Any = None) -> Any:
    """`cumprod` over a short axis, a product a step."""
    import torch

    if dtype is not None or not isinstance(x.shape[dim], int) or x.shape[dim] > 64:
        return NotImplemented
    first, *rest = x.unbind(dim)
    products = [first]
    for value in rest:
        products.append(products[-1] * value)
    return torch.stack(products, dim)


def spread_rows(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Any:
    """`index_add` of floats as a product with a matrix of zeros and ones."""
    import torch

    axis = dim % x.dim()
    if not x.is_floating_point() or index.dim() != 1:
        return NotImplemented
    placed = (index[:, None] == torch.arange(x.shape[axis], device=x.device)).to(x.dtype)
    return x + (source.movedim(axis, -1) @ placed * alpha).movedim(-1, axis)
