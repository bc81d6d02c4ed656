"""Ops of core ATen that coremltools lacks, in terms of those that it has, and those that it takes better whole.

Every function is traced on fake tensors, and may return NotImplemented to leave an op to coremltools or its refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ferrule.converters.decompositions import bucket, diagonal, distances, search, spread_rows, windows
from ferrule.converters.picture_decompositions import (
    join_patches,
    pad,
    patches,
    smooth_bicubic,
    smooth_bilinear,
    transposed,
)

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
        aten._cdist_forward.default: distances,
        aten.constant_pad_nd.default: pad,
        aten.convolution.default: _convolution,
        aten.diagonal.default: diagonal,
        aten.diagonal_copy.default: diagonal,
        aten.unfold.default: windows,
        aten.unfold_copy.default: windows,
        aten.im2col.default: patches,
        aten.col2im.default: join_patches,
        aten.index_add.default: spread_rows,
        aten.masked_scatter.default: _masked_scatter,
        aten.lerp.Scalar: _between,
        aten.lerp.Tensor: _between,
        aten.hypot.default: _hypotenuse,
        aten.copysign.Tensor: _with_sign,
        aten.bucketize.Tensor: bucket,
        aten.searchsorted.Tensor: search,
        aten._upsample_bilinear2d_aa.default: smooth_bilinear,
        aten._upsample_bicubic2d_aa.default: smooth_bicubic,
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


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    backwards: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    """coremltools fails at padding of the output where the other padding is 0."""
    if not backwards:
        return NotImplemented
    return transposed(x, weight, bias, stride, padding, output_padding, groups, dilation)


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
