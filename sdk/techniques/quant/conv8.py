"""`conv8`: int8 convolutions of pictures, a scale for each output channel, on int8 inputs of ranges found beforehand.

A batch norm after a convolution stays where it is: it multiplies channels, and a runtime puts it into the scales. What
a convolution gives is rounded when the next one reads it, by that one's range, with the activation between them done.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ferrule.errors import InputError
from ferrule.model import Model

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Options", "code_convolutions"]


@dataclass(frozen=True)
class Options:
    """method: how a range is clipped, `mse`, `percentile` or `minmax` (not at all). percentile: kept on either side.

    layers, skip: globs of layer names to code, to leave in float.
    """

    method: str = "mse"
    percentile: float = 99.99
    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in ("mse", "percentile", "minmax"):
            raise ValueError(f"method is {self.method!r}; allowed: mse, percentile, minmax")
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}; allowed: above 50, up to 100")


def code_convolutions(model: Model, options: Options, data: list[Mapping[str, Tensor]] | None = None) -> Model:
    """Code every nn.Conv2d padded with zeros as Affine(8 bits, per output channel) with static int8 inputs.

    Raises InputError FER-INP-010 without calibration data. A note tells of layers that none of it reaches, which stay
    in float.
    """
    from torch import nn

    from ferrule.codec import encode_affine
    from ferrule.coded import CodedConv
    from ferrule.observe import observe_ranges
    from ferrule.techniques.quant.layers import Choice, replace_layers

    if not data:
        raise InputError(
            "FER-INP-010",
            "Technique 'conv8' chooses ranges on calibration data, and there are none.",
            "Give --calibrate FILE (some hundred typical pictures).",
        )
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
