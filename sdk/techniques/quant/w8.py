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
    """layers: globs of the layers to code. skip: globs of layers that stay in float."""

    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()


def code_weights(model: Model, options: Options, data: list[Mapping[str, Tensor]] | None = None) -> Model:
    """Code every linear layer as Affine(8 bits, per channel), round to nearest; `data` is not used."""
    from ferrule.codec import encode_affine
    from ferrule.coded import ACTIVATION_NONE
    from ferrule.techniques.quant.attention import split_attention
    from ferrule.techniques.quant.layers import Choice, code_linears

    choice = Choice(options.layers, options.skip)
    return code_linears(
        split_attention(model, choice),
        "w8",
        encode=lambda weight, _: encode_affine(weight, bits=8),
        activation=ACTIVATION_NONE,
        choice=choice,
    )
