"""Coded layers: modules that hold codes instead of weights, and the torch ops that they call.

The forward of a coded layer is one op, `ferrule::coded_linear` or `ferrule::coded_embedding`, with a plain torch
reference and a fake kernel, so that torch.export keeps it whole and every converter can lower it natively.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ferrule.codec import Affine, decode, spread_scales

__all__ = [
    "ACTIVATION_DYNAMIC",
    "ACTIVATION_NONE",
    "CodedEmbedding",
    "CodedLinear",
    "coded_embedding",
    "coded_linear",
    "quantize_rows",
]

ACTIVATION_NONE = 0
ACTIVATION_DYNAMIC = 1
"""How inputs are treated: left in float, or quantized to int8 for each row as they arrive."""


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Asymmetric int8 for each row (last axis): codes, scale and zero point, the latter two [..., 1] float32.

    The range always contains zero, so that padding and masked values stay exact.
    """
    low = x.amin(-1, keepdim=True).clamp_max(0.0)
    high = x.amax(-1, keepdim=True).clamp_min(0.0)
    scale = ((high - low) / 255.0).clamp_min(torch.finfo(torch.float32).eps)
    zero = (-128.0 - (low / scale).round()).clamp(-128, 127)
    codes = ((x / scale).round() + zero).clamp(-128, 127)
    return codes, scale, zero


@torch.library.custom_op("ferrule::coded_linear", mutates_args=())
def coded_linear(
    x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None, bits: int, group: int, activation: int
) -> Tensor:
    """x [..., in] times the coded weight [out, in], plus bias [out]; float32 out.

    codes int8 [out, in], scales float32 [out, groups] (group 0: one scale a row), activation as above.
    """
    weight = codes.float() * spread_scales(scales, codes.shape[1], group)
    if activation == ACTIVATION_DYNAMIC:
        quantized, scale, zero = quantize_rows(x.float())
        x = (quantized - zero) * scale
    return torch.nn.functional.linear(x.float(), weight, bias)


@coded_linear.register_fake
def _coded_linear_fake(
    x: Tensor, codes: Tensor, scales: Tensor, bias: Tensor | None, bits: int, group: int, activation: int
) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]), dtype=torch.float32)


@torch.library.custom_op("ferrule::coded_embedding", mutates_args=())
def coded_embedding(indices: Tensor, codes: Tensor, scales: Tensor, bits: int, group: int) -> Tensor:
    """Rows of the coded table [rows, width] at integer indices [...]; float32 [..., width]."""
    return codes[indices].float() * spread_scales(scales, codes.shape[1], group)[indices]


@coded_embedding.register_fake
def _coded_embedding_fake(indices: Tensor, codes: Tensor, scales: Tensor, bits: int, group: int) -> Tensor:
    return indices.new_empty((*indices.shape, codes.shape[1]), dtype=torch.float32)


class CodedLinear(nn.Module):
    """A linear layer whose weight is held by a codec."""

    codes: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, codec: Affine, bias: Tensor | None, activation: int) -> None:
        super().__init__()
        self.register_buffer("codes", codec.codes)
        self.register_buffer("scales", codec.scales)
        self.register_buffer("bias", None if bias is None else bias.detach().float())
        self.bits, self.group, self.activation = codec.bits, codec.group, activation

    @property
    def codec(self) -> Affine:
        """The codec of the weight [out, in]."""
        return Affine(self.codes, self.scales, self.bits, self.group)

    @property
    def weight(self) -> Tensor:
        """The decoded weight: models that look at `.weight.dtype` or `.weight.device` keep working."""
        return decode(self.codec)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.ferrule.coded_linear(
            x, self.codes, self.scales, self.bias, self.bits, self.group, self.activation
        )
        return y


class CodedEmbedding(nn.Module):
    """An embedding table held by a codec, a scale (or a list of scales) for each row."""

    codes: Tensor
    scales: Tensor

    def __init__(self, codec: Affine) -> None:
        super().__init__()
        self.register_buffer("codes", codec.codes)
        self.register_buffer("scales", codec.scales)
        self.bits, self.group = codec.bits, codec.group

    @property
    def codec(self) -> Affine:
        """The codec of the table [rows, width]."""
        return Affine(self.codes, self.scales, self.bits, self.group)

    @property
    def weight(self) -> Tensor:
        """The decoded table, see `CodedLinear.weight`."""
        return decode(self.codec)

    def forward(self, indices: Tensor) -> Tensor:
        y: Tensor = torch.ops.ferrule.coded_embedding(indices, self.codes, self.scales, self.bits, self.group)
        return y
