"""`lut4`, `lut2`, …: palettes, weights as indices into a few values found by weighted k-means.

Core ML holds palettes as they are (constexpr_lut_to_dense); the other targets have no such weight and refuse it, decode
it where `expand` allows, or leave it to our kernel where `kernels` does. With calibration data the error of each weight
is weighed by the mean square of its input, so that the layer's output is what is kept (SqueezeLLM weighs by Fisher
information to the same end).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferrule.model import Model

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Options", "code_weights"]

BITS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Options:
    """bits: of an index, from 1, 2, 3, 4, 6, 8. group: output channels that share a palette (0: the whole matrix).

    scaled: each output channel has a scale of its own before it meets the palette. layers, skip: globs of layer names
    to code, to leave in float.
    """

    bits: int = 4
    group: int = 16
    scaled: bool = False
    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"bits is {self.bits}; allowed: {', '.join(map(str, BITS))}")
        if self.group < 0:
            raise ValueError(f"group is {self.group}; allowed: 0 (one palette) or a number of output channels")


def code_weights(model: Model, options: Options, data: list[Mapping[str, Tensor]] | None = None) -> Model:
    """Code every linear layer as Lookup; calibration inputs, if there are any, weigh the error."""
    from ferrule.coded import ACTIVATION_NONE
    from ferrule.techniques.quant.attention import split_attention
    from ferrule.techniques.quant.layers import Choice, code_linears, input_importance, search_lookup

    choice = Choice(options.layers, options.skip)
    model = split_attention(model, choice)
    return code_linears(
        model,
        f"lut{options.bits}",
        encode=lambda weight, importance: search_lookup(
            weight, options.bits, options.group, options.scaled, importance
        ),
        activation=ACTIVATION_NONE,
        choice=choice,
        importance=input_importance(model, data) if data else None,
    )
