"""`w8a8-static`: int8 weights per channel, and int8 activations whose ranges were found on calibration data.

The linear layers' inputs and outputs are int8; what lies between them (attention, norms) and the model's own inputs and
outputs stay in float. A range is one for the whole tensor: outliers cost resolution, so it is clipped where that is the
lesser error, by a percentile or by the least squared error over a histogram (as TensorRT and torchao do).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ferrule.model import Model
from ferrule.techniques.static_ranges import StaticOptions as Options
from ferrule.techniques.static_ranges import require_data

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Options", "code_weights"]


def code_weights(model: Model, options: Options, data: Sequence[Mapping[str, Tensor]] | None = None) -> Model:
    """Code every linear layer as Affine(8 bits, per channel) with static activations.

    Raises InputError FER-INP-010 without calibration data.
    """
    from ferrule.codec import encode_affine
    from ferrule.coded import ACTIVATION_STATIC
    from ferrule.observe import observe_ranges
    from ferrule.techniques.quant.attention import split_attention
    from ferrule.techniques.quant.layers import Choice, code_linears, linear_weight

    data = require_data(
        "w8a8-static", data, "Give --calibrate FILE (some hundred typical inputs), or use w8a8, which needs none."
    )
    choice = Choice(options.layers, options.skip)
    model = split_attention(model, choice)
    return code_linears(
        model,
        "w8a8-static",
        encode=lambda weight, _: encode_affine(weight, bits=8),
        activation=ACTIVATION_STATIC,
        choice=choice,
        ranges=observe_ranges(
            model, data, choice, options.method, options.percentile, lambda layer: linear_weight(layer) is not None
        ),
    )
