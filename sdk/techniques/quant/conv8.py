"""`conv8`: int8 convolutions of pictures, a scale for each output channel, on int8 inputs of ranges found beforehand.

A batch norm after a convolution stays where it is: it multiplies channels, and a runtime puts it into the scales. What
a convolution gives is rounded when the next one reads it, by that one's range, with the activation between them done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ferrule.model import Model
from ferrule.techniques.static_ranges import StaticOptions as Options
from ferrule.techniques.static_ranges import require_data

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Options", "code_convolutions"]


def code_convolutions(model: Model, options: Options, data: Sequence[Mapping[str, Tensor]] | None = None) -> Model:
    """Code every nn.Conv2d padded with zeros as Affine(8 bits, per output channel) with static int8 inputs.

    Raises InputError FER-INP-010 without calibration data. A note tells of layers that none of it reaches, which stay
    in float.
    """
    from torch import nn

    from ferrule.codec import encode_affine
    from ferrule.coded import CodedConv
    from ferrule.observe import observe_ranges
    from ferrule.techniques.quant.layers import Choice, replace_layers

    data = require_data("conv8", data, "Give --calibrate FILE (some hundred typical pictures).")
    choice = Choice(options.layers, options.skip)
    ranges = observe_ranges(model, data, choice, options.method, options.percentile, _is_plain)
    unreached: list[str] = []

    def make(name: str, layer: nn.Module) -> nn.Module | None:
        assert isinstance(layer, nn.Conv2d)
        if id(layer) not in ranges:
            unreached.append(name)
            return None
        return CodedConv(encode_affine(layer.weight.flatten(1), bits=8), layer, ranges[id(layer)][0])

    made = replace_layers(model, "conv8", _is_plain, make, choice, CodedConv)
    if not unreached:
        return made
    note = f"conv8: no calibration input reaches {len(unreached)} layers, such as {unreached[0]!r}: they stay in float."
    return replace(made, notes=(*made.notes, note))


def _is_plain(layer: nn.Module) -> bool:
    """Whether it is a convolution of pictures with zeros around them, as many as it says."""
    from torch import nn

    return type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
