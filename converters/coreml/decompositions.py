"""Ops of core ATen that coremltools lacks, in terms of those that it has, and those that it takes better whole.

Every function is traced on fake tensors, and may return NotImplemented to leave an op to coremltools or its refusal.
"""

from __future__ import annotations

from collections.abc import Callable
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
        aten.isinf.default: _isinf,
        aten.bitwise_or.Tensor: _either,
        aten.bitwise_xor.Tensor: _one_of,
    }


def _trunc(x: Tensor) -> Tensor:
    return x if not x.is_floating_point() else x.sign() * x.abs().floor()


def _fmod(x: Tensor, y: Any) -> Any:
    """The remainder with the dividend's sign; whole numbers go through floats, exact up to 2048 in half precision."""
    if not x.is_floating_point():
        return NotImplemented
    return x - _trunc(x / y) * y


def _div_mode(x: Tensor, y: Any, *, rounding_mode: str | None = None) -> Any:
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
