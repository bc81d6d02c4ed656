"""Coded layers: modules that hold codes instead of weights, and the torch ops that they call.

The forward of a coded layer is one op, `ferrule::coded_linear`, `ferrule::coded_conv` or `ferrule::coded_embedding`,
with a plain torch reference and a fake kernel, so that torch.export keeps it whole and converters lower it natively.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ferrule.codec import Affine, Codec, Lookup, Range, decode, spread_scales

__all__ = [
    "ACTIVATION_DYNAMIC",
    "ACTIVATION_NONE",
    "ACTIVATION_STATIC",
    "CodedConv",
    "CodedEmbedding",
    "CodedLinear",
    "coded_conv",
    "coded_embedding",
    "coded_linear",
    "quantize_range",
    "quantize_rows",
]

ACTIVATION_NONE = 0
ACTIVATION_DYNAMIC = 1
ACTIVATION_STATIC = 2
"""How inputs are treated: left in float; quantized to int8 for each row as they arrive; or by a range known beforehand,
outputs too (the integer kernels of XNNPACK and LiteRT write int8)."""


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


def quantize_range(x: Tensor, scale: float, zero_point: float) -> Tensor:
    """x rounded to the int8 values of a `Range`, float32."""
    codes = ((x / scale).round() + zero_point).clamp(-128, 127)
    return (codes - zero_point) * scale


def _decode(codes: Tensor, scales: Tensor, table: Tensor | None, bits: int, group: int) -> Tensor:
    return decode(_codec(codes, scales, table, bits, group))


def _codec(codes: Tensor, scales: Tensor, table: Tensor | None, bits: int, group: int) -> Codec:
    return Affine(codes, scales, bits, group) if table is None else Lookup(codes, table, scales, bits, group)


@torch.library.custom_op("ferrule::coded_linear", mutates_args=())
def coded_linear(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    table: Tensor | None,
    bias: Tensor | None,
    bits: int,
    group: int,
    activation: int,
    ranges: Sequence[float],
) -> Tensor:
    """x [..., in] times the coded weight [out, in], plus bias [out]; float32 out.

    codes [out, in] int8 with scales [out, groups] (`Affine`), or uint8 with a table (`Lookup`); activation as above.
    ranges: scale and zero point of the input, then of the output, for static activations; else empty.
    """
    weight = _decode(codes, scales, table, bits, group)
    x = x.float()
    if activation == ACTIVATION_DYNAMIC:
        quantized, scale, zero = quantize_rows(x)
        x = (quantized - zero) * scale
    if activation == ACTIVATION_STATIC:
        x = quantize_range(x, ranges[0], ranges[1])
    y = torch.nn.functional.linear(x, weight, bias)
    return quantize_range(y, ranges[2], ranges[3]) if activation == ACTIVATION_STATIC else y


@coded_linear.register_fake
def _coded_linear_fake(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    table: Tensor | None,
    bias: Tensor | None,
    bits: int,
    group: int,
    activation: int,
    ranges: Sequence[float],
) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]), dtype=torch.float32)


@torch.library.custom_op("ferrule::coded_conv", mutates_args=())
def coded_conv(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    bias: Tensor | None,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    given: Sequence[float],
) -> Tensor:
    """Pictures x [batch, in, height, width], rounded to a static range, convolved with a coded weight; float32 out.

    codes: int8 [out, in / groups * kernel height * kernel width] with scales [out, 1]. bias: [out]. kernel, stride,
    padding, dilation: height and width. given: scale and zero point of x. The output stays as it is: what reads it next
    rounds it to a range of its own, which a runtime may do where it is written.
    """
    weight = _decode(codes, scales, None, 8, 0).view(len(codes), -1, *kernel)
    x = quantize_range(x.float(), given[0], given[1])
    return torch.nn.functional.conv2d(x, weight, bias, list(stride), list(padding), list(dilation), groups)


@coded_conv.register_fake
def _coded_conv_fake(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    bias: Tensor | None,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    given: Sequence[float],
) -> Tensor:
    weight = x.new_empty((codes.shape[0], x.shape[1] // groups, *kernel), dtype=torch.float32)
    return torch.nn.functional.conv2d(x.float(), weight, None, list(stride), list(padding), list(dilation), groups)


@torch.library.custom_op("ferrule::coded_embedding", mutates_args=())
def coded_embedding(
    indices: Tensor, codes: Tensor, scales: Tensor, table: Tensor | None, bits: int, group: int
) -> Tensor:
    """Rows of the coded table [rows, width] at integer indices [...]; float32 [..., width]."""
    if table is not None:
        return _decode(codes, scales, table, bits, group)[indices]
    return codes[indices].float() * spread_scales(scales, codes.shape[1], group)[indices]


@coded_embedding.register_fake
def _coded_embedding_fake(
    indices: Tensor, codes: Tensor, scales: Tensor, table: Tensor | None, bits: int, group: int
) -> Tensor:
    return indices.new_empty((*indices.shape, codes.shape[1]), dtype=torch.float32)


class CodedLinear(nn.Module):
    """A linear layer whose weight is held by a codec.

    ranges: of the input and the output, needed for ACTIVATION_STATIC and for nothing else.
    """

    codes: Tensor
    scales: Tensor
    table: Tensor | None
    bias: Tensor | None

    def __init__(
        self, codec: Codec, bias: Tensor | None, activation: int, ranges: tuple[Range, Range] | None = None
    ) -> None:
        super().__init__()
        assert (ranges is not None) == (activation == ACTIVATION_STATIC)
        _hold(self, codec)
        self.register_buffer("bias", None if bias is None else bias.detach().float())
        self.bits, self.group, self.activation = codec.bits, codec.group, activation
        self.ranges = [float(value) for r in ranges or () for value in (r.scale, r.zero_point)]

    @property
    def codec(self) -> Codec:
        """The codec of the weight [out, in]."""
        return _codec(self.codes, self.scales, self.table, self.bits, self.group)

    @property
    def weight(self) -> Tensor:
        """The decoded weight: models that look at `.weight.dtype` or `.weight.device` keep working."""
        return decode(self.codec)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.ferrule.coded_linear(
            x, self.codes, self.scales, self.table, self.bias, self.bits, self.group, self.activation, self.ranges
        )
        return y


class CodedConv(nn.Module):
    """A convolution of pictures whose weight is held by a codec, and whose input is rounded to a range.

    codec: Affine of 8 bits of the weight as a matrix [out, in / groups * kernel height * kernel width].
    """

    codes: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, codec: Affine, layer: nn.Conv2d, given: Range) -> None:
        super().__init__()
        assert codec.bits == 8 and not codec.group and not isinstance(layer.padding, str)
        self.register_buffer("codes", codec.codes)
        self.register_buffer("scales", codec.scales)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach().float())
        self.kernel, self.stride = list(layer.kernel_size), list(layer.stride)
        self.padding, self.dilation, self.groups = list(layer.padding), list(layer.dilation), layer.groups
        self.given = [given.scale, float(given.zero_point)]

    @property
    def codec(self) -> Affine:
        """The codec of the weight, as a matrix."""
        return Affine(self.codes, self.scales, 8)

    @property
    def weight(self) -> Tensor:
        """The decoded weight [out, in / groups, height, width], see `CodedLinear.weight`."""
        return decode(self.codec).view(len(self.codes), -1, *self.kernel)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.ferrule.coded_conv(
            x, self.codes, self.scales, self.bias, self.kernel, self.stride, self.padding, self.dilation, self.groups,
            self.given,
        )  # fmt: skip
        return y


class CodedEmbedding(nn.Module):
    """An embedding table held by a codec."""

    codes: Tensor
    scales: Tensor
    table: Tensor | None

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        _hold(self, codec)
        self.bits, self.group = codec.bits, codec.group

    @property
    def codec(self) -> Codec:
        """The codec of the table [rows, width]."""
        return _codec(self.codes, self.scales, self.table, self.bits, self.group)

    @property
    def weight(self) -> Tensor:
        """The decoded table, see `CodedLinear.weight`."""
        return decode(self.codec)

    def forward(self, indices: Tensor) -> Tensor:
        y: Tensor = torch.ops.ferrule.coded_embedding(
            indices, self.codes, self.scales, self.table, self.bits, self.group
        )
        return y


def _hold(module: nn.Module, codec: Codec) -> None:
    module.register_buffer("codes", codec.codes)
    module.register_buffer("scales", codec.scales)
    module.register_buffer("table", codec.table if isinstance(codec, Lookup) else None)
