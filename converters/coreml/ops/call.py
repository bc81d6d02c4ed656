"""What an op's function is given beside its parameters, and how half precision is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule.converters.coreml.constants import Array, TensorType

__all__ = ["Array", "Call", "OpFunction", "axes_of", "to_list", "widen"]


@dataclass(frozen=True)
class Call:
    """The op at hand: declared outputs, states to read and write, whether indices may count from the end."""

    outputs: tuple[TensorType, ...]
    state: dict[str, Array] = field(default_factory=dict)
    negative_indices: bool = True


OpFunction = Callable[..., Any]
"""Takes a Call and the op's parameters by name; returns one value or a tuple of them, in any precision:
the interpreter rounds each to the type that the op declares."""


def widen(x: Array) -> Array:
    """Half precision as fp32, the rest as it is: ops compute wide and are rounded once, at their output."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def to_list(x: Any) -> list[int]:
    """An integer parameter as a list of Python integers."""
    return [int(v) for v in np.asarray(x).reshape(-1)]


def axes_of(axes: Any, rank: int) -> tuple[int, ...]:
    """Axes counted from the front; None is all of them."""
    return tuple(range(rank)) if axes is None else tuple(a % rank for a in to_list(axes))
