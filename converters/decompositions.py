"""Ops of torch in terms of more common ones, for toolkits that lack them or get them wrong.

Every function is traced on fake tensors and computes the same as its op, in any order of sums; it returns
NotImplemented where it cannot, and the op then stays as it is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ferrule.converters.picture_decompositions import (
    join_patches,
    nearest,
    pad,
    pool_largest,
    smooth_bicubic,
    smooth_bilinear,
    transposed,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

__all__ = [
    "bucket",
    "diagonal",
    "distances",
    "for_executorch",
    "for_litert",
    "functionalize",
    "running_product",
    "search",
    "simplify",
    "spread_rows",
    "windows",
]


def simplify(program: ExportedProgram, table: Mapping[Any, Callable[..., Any]]) -> ExportedProgram:
    """The program with those ops of the table that it has decomposed; one that has none comes back as it is."""
    found = {node.target for node in program.graph.nodes if node.op == "call_function"} & set(table)
    return _decomposed(program, {op: table[op] for op in table if op in found}) if found else program


def functionalize(program: ExportedProgram) -> ExportedProgram:
    """The program without ops that write to their arguments; buffers that are written become outputs."""
    return _decomposed(program, {})


def _decomposed(program: ExportedProgram, table: dict[Any, Callable[..., Any]]) -> ExportedProgram:
    with warnings.catch_warnings():
        # A remark of torch's on its own code, which no user can heed.
        warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
        return program.run_decompositions(table)


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
    """Kernels are lacking; padding by negative widths fails where it runs; remainders of whole numbers take C's sign;

    and XNNPACK's partitioner takes a PReLU of any rank, but lays out pictures only.
    """
    import torch

    aten = torch.ops.aten
    return _for_both() | {
        aten.pad.default: _pad_or_cut,
        aten.prelu.default: _leak,
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


def _leak(x: Tensor, slope: Tensor) -> Any:
    if x.dim() == 4:
        return NotImplemented
    factor = slope.reshape(-1, *[1] * (x.dim() - 2)) if x.dim() > 1 else slope
    return x.relu() - factor * (-x).relu()


def _remainder(x: Tensor, y: Any) -> Any:
    whole = not x.is_floating_point() and not (y.is_floating_point() if hasattr(y, "dtype") else isinstance(y, float))
    return x - x.div(y, rounding_mode="floor") * y if whole else NotImplemented


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
