"""`w4g32`: int4 weights in groups of 32 input features, with int8 activations quantized for each row.

The integer kernels of ExecuTorch, LiteRT and ONNX Runtime for grouped int4 all quantize activations on the fly, so
that is the default; `activations="none"` asks for float activations, which Core ML and ONNX Runtime can hold.
"""

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
    """rounding: `mse` (least squared error, weighed by the inputs when calibrated) or `rtn` (round to nearest).

    activations: `dynamic` int8 or `none` (float). layers, skip: globs of layer names to code, to leave in float.
    """

    rounding: str = "mse"
    activations: str = "dynamic"
    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.rounding not in ("mse", "rtn"):
            raise ValueError(f"rounding is {self.rounding!r}; allowed: mse, rtn")
        if self.activations not in ("dynamic", "none"):
            raise ValueError(f"activations is {self.activations!r}; allowed: dynamic, none")


def code_weights(model: Model, options: Options, data: list[Mapping[str, Tensor]] | None = None) -> Model:
    """Code every linear layer as Affine(4 bits, groups of 32); calibration inputs, if given, weigh the error."""
    from ferrule.coded import ACTIVATION_DYNAMIC, ACTIVATION_NONE
    from ferrule.techniques.quant.attention import split_attention
    from ferrule.techniques.quant.layers import Choice, code_linears, input_importance, search_affine

    choice = Choice(options.layers, options.skip)
    model = split_attention(model, choice)
    return code_linears(
        model,
        "w4g32",
        encode=lambda weight, importance: search_affine(weight, 4, 32, options.rounding, importance),
        activation=ACTIVATION_DYNAMIC if options.activations == "dynamic" else ACTIVATION_NONE,
        choice=choice,
        importance=input_importance(model, data) if data and options.rounding == "mse" else None,
    )
