"""Coded ops as modules whose graphs are ONNX Runtime's own quantized ops, with our codes and scales in them.

    int8, a scale a row     x ── quantize rows ── MatMulIntegerToFloat ── scale rows, shift ── y     (onnx_rows)
    with static ranges      x ── quantize ── QGemm ── dequantize ── y                       (onnx_static)
    int8 groups, int4       x ── MatMulNBits ── y
    embedding               indices ── GatherBlockQuantized ── y

MatMulNBits can hold the first too, but is slower: with int8 inputs, which it rounds for each block and not for each
row, and much more with float inputs, for which it decodes the weights at every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ferrule.codec import Affine, Lookup
from ferrule.coded import ACTIVATION_DYNAMIC
from ferrule.converters.codec_names import LOOKUP_ADVICE, codec_name
from ferrule.converters.coded_sites import CONVOLUTION_ADVICE, CodedSite, float_layer
from ferrule.converters.kernel_layers import kernel_layer
from ferrule.converters.onnx_rows import RowLinear
from ferrule.converters.onnx_static import StaticLinear
from ferrule.converters.static_int8 import fit_kernels, static_refusal
from ferrule.errors import LoweringError

__all__ = ["BlockEmbedding", "BlockLinear", "layer_maker"]

_BLOCKS = (256, 128, 64, 32, 16)
"""Block lengths for which ONNX Runtime has kernels; a block is a run of columns with one scale."""

_FLOAT_COMPUTE, _INT8_COMPUTE = 1, 4
"""`accuracy_level` of MatMulNBits: what the inputs are rounded to before the product."""


def layer_maker(expand: bool, notes: dict[str, None], kernels: bool = False) -> Callable[[CodedSite], nn.Module]:
    """A function from a coded site to the module that stands for it; sentences for the user go into `notes`.

    Raises LoweringError FER-LOW-002 for a codec that ONNX Runtime cannot hold, unless `expand`, or `kernels` and it
    is one that ours read.
    """

    def make(site: CodedSite) -> nn.Module:
        reason, codec = _refusal(site), site.codec
        if reason is None and isinstance(codec, Affine):
            layer = _native_layer(site, codec)
            notes.update(dict.fromkeys(_deviations(layer)))
            return layer
        if kernels and (own := kernel_layer(site, notes)) is not None:
            return own
        if not expand:
            raise LoweringError(
                "FER-LOW-002",
                f"Target onnx cannot hold {codec_name(site)} of layer {site.name!r}: {reason}.",
                CONVOLUTION_ADVICE
                if site.kind == "conv"
                else LOOKUP_ADVICE
                if isinstance(codec, Lookup)
                else "Use w8, w8a8, w8a8-static or w4g32, or allow expanding to float32.",
            )
        notes[f"{codec_name(site)} is expanded to float32 in the file: {reason}."] = None
        return float_layer(site)

    return make


def _native_layer(site: CodedSite, codec: Affine) -> nn.Module:
    if site.kind == "embedding":
        return BlockEmbedding(codec)
    if site.ranges is not None:
        fitted = fit_kernels(site)
        assert isinstance(fitted.codec, Affine) and fitted.ranges is not None
        return StaticLinear(fitted.codec, fitted.bias, fitted.ranges)
    kind = RowLinear if codec.bits == 8 and not codec.group else BlockLinear
    return kind(codec, site.bias, site.activation)


def _refusal(site: CodedSite) -> str | None:
    """Why ONNX Runtime cannot hold the site, or None."""
    if site.kind == "conv":
        return "its integer convolutions round their outputs to a range, which this codec leaves to the next layer"
    if isinstance(site.codec, Lookup):
        return "its kernels know no palettes"
    if site.ranges is not None:
        return static_refusal(site)
    bits, group = site.codec.bits, site.codec.group
    if bits not in (4, 8):
        return "its kernels hold int8 and int4"
    if group and (group < _BLOCKS[-1] or group & (group - 1)):
        return f"its groups are a power of two of {_BLOCKS[-1]} columns or more"
    if site.kind == "embedding" and bits == 4 and site.codec.codes.shape[1] % 2:
        return "a row of an int4 embedding must fill whole bytes, so its width must be even"
    return None


def _deviations(layer: nn.Module) -> Iterator[str]:
    if isinstance(layer, RowLinear):
        if layer.fine:
            yield (
                "The float inputs of weight-only int8 layers are carried as 16-bit numbers for each row, in two parts, "
                "so that integer kernels multiply them; ONNX Runtime would decode the weights at every run otherwise."
            )
    elif not isinstance(layer, BlockLinear):
        return
    elif layer.level == _INT8_COMPUTE:
        yield (
            f"ONNX Runtime rounds the inputs of int{layer.bits} layers to int8 with a symmetric scale for each block "
            f"of {layer.block} columns, where the recipe asks for an asymmetric one for each row."
        )
    elif layer.bits == 8:
        yield (
            "ONNX Runtime decodes int8 weights in groups to float32 each time they meet float inputs: they save "
            "storage and memory, not time."
        )


class BlockLinear(nn.Module):
    """Codes in blocks of columns, one MatMulNBits.

    codes: uint8 [out, blocks, bytes of a block]. scales: float32 [out, blocks].
    """

    codes: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, codec: Affine, bias: Tensor | None, activation: int) -> None:
        super().__init__()
        self.rows, self.columns = codec.codes.shape
        self.bits, self.block = codec.bits, _choose_block(codec)
        self.level = _INT8_COMPUTE if activation == ACTIVATION_DYNAMIC else _FLOAT_COMPUTE
        self.register_buffer("codes", _pack_blocks(codec, self.block))
        self.register_buffer("scales", _block_scales(codec, self.block))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.float().unsqueeze(0) if x.dim() == 1 else x.float()
        y = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulNBits",
            (flat, self.codes, self.scales, None, None, self.bias),
            {
                "K": self.columns,
                "N": self.rows,
                "bits": self.bits,
                "block_size": self.block,
                "accuracy_level": self.level,
            },
            dtype=torch.float32,
            shape=(*flat.shape[:-1], self.rows),
            version=1,
        )
        return y.squeeze(0) if x.dim() == 1 else y


class BlockEmbedding(nn.Module):
    """A table in blocks of columns, one GatherBlockQuantized.

    codes: uint8 [rows, bytes of a row]. scales: float32 [rows, blocks].
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, codec: Affine) -> None:
        super().__init__()
        self.width, self.bits = codec.codes.shape[1], codec.bits
        # Blocks have no kernels of their own here, so that one may be as long as the row.
        self.block = codec.group or max(_BLOCKS[-1], 1 << (self.width - 1).bit_length())
        packed = _pack_blocks(codec, self.block).flatten(1)
        self.register_buffer("codes", packed[:, : self.width * self.bits // 8].contiguous())
        self.register_buffer("scales", codec.scales.contiguous())

    def forward(self, indices: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            "com.microsoft::GatherBlockQuantized",
            (self.codes, indices, self.scales),
            {"bits": self.bits, "block_size": self.block, "gather_axis": 0, "quantize_axis": 1},
            dtype=torch.float32,
            shape=(*indices.shape, self.width),
            version=1,
        )


def _choose_block(codec: Affine) -> int:
    """The codec's group, or for one scale a row the block that stores fewest bytes (padding and scales)."""
    if codec.group:
        return min(codec.group, _BLOCKS[0])
    columns = codec.codes.shape[1]
    return min(_BLOCKS, key=lambda block: -(-columns // block) * (block * codec.bits // 8 + 4))


def _pack_blocks(codec: Affine, block: int) -> Tensor:
    """Codes made unsigned, padded with zero weights and packed: uint8 [rows, blocks, block * bits / 8]."""
    rows, columns = codec.codes.shape
    zero = 2 ** (codec.bits - 1)
    # In 8 bits the sum wraps around to the unsigned code.
    codes = (codec.codes + zero if codec.bits < 8 else codec.codes ^ -128).view(torch.uint8)
    codes = nn.functional.pad(codes, (0, -columns % block), value=zero)
    if codec.bits == 4:
        codes = codes[:, 0::2] | codes[:, 1::2] << 4
    return codes.reshape(rows, -1, block * codec.bits // 8).contiguous()


def _block_scales(codec: Affine, block: int) -> Tensor:
    """Scales repeated to one for each block: float32 [rows, blocks]."""
    blocks = -(-codec.codes.shape[1] // block)
    repeats = codec.group // block if codec.group else blocks
    return codec.scales.repeat_interleave(repeats, 1)[:, :blocks].contiguous()
