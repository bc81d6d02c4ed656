"""`w8`: int8 weights of linear layers, one scale for each output channel; activations stay in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferrule.model import Model

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Options", "code_weights"]


@dataclass(frozen=True)
class Options:
    """skip: globs of layer names that stay in float."""

    skip: tuple[str, ...] = ()


def code_weights(model: Model, options: Options, data: list[Mapping[str, Tensor]] | None = None) -> Model:
    """Code every linear layer as Affine(8 bits, per channel), round to nearest; `data` is not used."""
    from ferrule.coded import ACTIVATION_NONE
    from ferrule.techniques.quant.layers import code_linears

    return code_linears(model, "w8", bits=8, group=0, activation=ACTIVATION_NONE, skip=options.skip)
