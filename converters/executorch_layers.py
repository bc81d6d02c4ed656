"""Coded ops as modules whose graphs XNNPACK takes whole, with our codes and scales in them.

    x ── quantize a row at a time ── dequantize ─┐
                                                  linear ── y      one XNNPACK fully-connected op
    codes ── dequantize with our scales ──────────┘

    x ── quantize ── dequantize ── linear ── quantize ── dequantize ── y      static ranges: int8 in, int8 out

XNNPACK holds int8 and int4 with a float32 scale a row, and int4 with a bfloat16 scale for every 32 columns (or a
multiple of that), the latter with int8 activations only. ExecuTorch's own partitioner takes the pattern only with
quantized activations; the rule for float ones is in `executorch_partition`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ferrule.codec import Affine, Lookup, Range
from ferrule.converters.codec_names import LOOKUP_ADVICE, codec_name
from ferrule.converters.coded_sites import CONVOLUTION_ADVICE, CodedSite, float_layer
from ferrule.converters.kernel_layers import kernel_layer
from ferrule.converters.static_int8 import fit_kernels, static_refusal
from ferrule.errors import LoweringError

if TYPE_CHECKING:
    from torch import Tensor, nn


__all__ = ["layer_maker", "pad_codes"]

GROUP = 32  # XNNPACK's blocks of int4 weights are multiples of 32 columns


def layer_maker(expand: bool, notes: dict[str, None], kernels: bool = False) -> Callable[[CodedSite], nn.Module]:
    """A function from a coded site to the module that stands for it; sentences for the user go into `notes`.

    Raises LoweringError FER-LOW-002 for a codec that XNNPACK cannot hold, unless `expand`, or `kernels` and it
    is one that ours read.
    """

    def make(site: CodedSite) -> nn.Module:
        reason, codec = _refusal(site), site.codec
        if reason is None and isinstance(codec, Affine):
            if site.kind == "embedding":
                return _embedding(codec, notes)
            return _static_linear(fit_kernels(site)) if site.ranges else _linear(site, codec, notes)
        if kernels and (own := kernel_layer(site, notes)) is not None:
            return own
        if not expand:
            raise LoweringError(
                "FER-LOW-002",
                f"Target executorch cannot hold {codec_name(site)} of layer {site.name!r}: {reason}.",
                CONVOLUTION_ADVICE
                if site.kind == "conv"
                else LOOKUP_ADVICE
                if isinstance(codec, Lookup)
                else "Use w8, w8a8, w8a8-static or w4g32 with quantized activations, or allow expanding to float32.",
            )
        notes[f"{codec_name(site)} is expanded to float32 in the file: {reason}."] = None
        return float_layer(site)

    return make


def pad_codes(codec: Affine) -> Affine:
    """Zero columns added to grouped codes up to whole groups; codes with a scale a row stay as they are."""
    import torch

    extra = -codec.codes.shape[1] % codec.group if codec.group else 0
    codes = torch.nn.functional.pad(codec.codes, (0, extra)).contiguous()
    if codes.untyped_storage().nbytes() != codes.numel():
        codes = codes.clone()  # ExecuTorch writes a tensor's whole storage
    return Affine(codes, codec.scales, codec.bits, codec.group)


def _refusal(site: CodedSite) -> str | None:
    """Why XNNPACK (or the embedding kernel) cannot hold the site, or None."""
    if site.kind == "conv":
        return (
            "XNNPACK's integer convolutions round their outputs to a range, which this codec leaves to the next layer"
        )
    if isinstance(site.codec, Lookup):
        return "XNNPACK has no palettes"
    if site.ranges is not None:
        return static_refusal(site)
    bits, group = site.codec.bits, site.codec.group
    if site.kind == "embedding":
        if bits != 8:
            return "its embedding kernels here read int8"
        if group and site.codec.codes.shape[1] % group:
            return f"the embedding kernel needs a width that is a multiple of the group {group}"
        return None
    if bits == 8 and group:
        return "XNNPACK has groups for int4 only"
    if group and not site.activation:
        return "XNNPACK multiplies int4 groups with int8 activations only"
    if group % GROUP:
        return f"XNNPACK's int4 groups are multiples of {GROUP}"
    return None if bits in (4, 8) else "XNNPACK holds int8 and int4"


def _linear(site: CodedSite, plain: Affine, notes: dict[str, None]) -> nn.Module:
    import torch

    codec = pad_codes(plain)
    extra, dynamic = codec.codes.shape[1] - plain.codes.shape[1], bool(site.activation)
    if codec.group and not torch.equal(codec.scales, codec.scales.bfloat16().float()):
        notes["XNNPACK stores the scales of int4 groups as bfloat16: they are rounded by up to 0.4 %."] = None
    if extra:
        notes["int4 layers are padded with zero columns to whole groups."] = None

    class Linear(torch.nn.Module):
        codes: Tensor
        scales: Tensor
        zeros: Tensor
        bias: Tensor | None

        def __init__(self) -> None:
            super().__init__()
            scales = codec.scales.clone() if codec.group else codec.scales[:, 0].clone()
            self.register_buffer("codes", codec.codes)
            self.register_buffer("scales", scales)
            self.register_buffer("zeros", torch.zeros_like(scales, dtype=torch.int8 if codec.group else torch.int64))
            self.register_buffer("bias", site.bias)

        def forward(self, x: Tensor) -> Tensor:
            if extra:
                x = torch.nn.functional.pad(x, (0, extra))
            weight = _decode(self.codes, self.scales, self.zeros, codec)
            if dynamic:
                return torch.nn.functional.linear(_quantize_rows(x), weight, self.bias)
            # ExecuTorch cannot write a bias beside float inputs and an int8 weight: it is added apart.
            y = torch.nn.functional.linear(x, weight)
            return y if self.bias is None else y + self.bias

    return Linear()


def _static_linear(site: CodedSite) -> nn.Module:
    import torch

    assert site.ranges is not None and isinstance(site.codec, Affine)
    codec, (source, target) = pad_codes(site.codec), site.ranges

    class StaticLinear(torch.nn.Module):
        codes: Tensor
        scales: Tensor
        zeros: Tensor
        bias: Tensor | None

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", codec.codes)
            self.register_buffer("scales", codec.scales[:, 0].clone())
            self.register_buffer("zeros", torch.zeros(len(codec.codes), dtype=torch.int64))
            self.register_buffer("bias", site.bias)

        def forward(self, x: Tensor) -> Tensor:
            weight = _decode(self.codes, self.scales, self.zeros, codec)
            return _quantize_range(torch.nn.functional.linear(_quantize_range(x, source), weight, self.bias), target)

    return StaticLinear()


def _quantize_range(x: Tensor, values: Range) -> Tensor:
    """Quantize and dequantize by a known range."""
    import torch
    import torch.ao.quantization.fx._decomposed  # noqa: F401  defines the ops

    ops = torch.ops.quantized_decomposed
    x = x if x.dtype == torch.float32 else x.float()  # a cast that does nothing would hide the pattern
    codes = ops.quantize_per_tensor(x, values.scale, values.zero_point, -128, 127, torch.int8)
    y: Tensor = ops.dequantize_per_tensor(codes, values.scale, values.zero_point, -128, 127, torch.int8)
    return y


def _quantize_rows(x: Tensor) -> Tensor:
    """Quantize and dequantize, a row at a time, by ops that have kernels for fake tensors: torchao's trace slowly."""
    import torch
    import torch.ao.quantization.fx._decomposed  # noqa: F401  defines the ops

    ops = torch.ops.quantized_decomposed
    scale, zero = ops.choose_qparams_per_token_asymmetric(x, torch.int8)
    codes = ops.quantize_per_token(x, scale, zero, -128, 127, torch.int8)
    y: Tensor = ops.dequantize_per_token(codes, scale, zero, -128, 127, torch.int8, torch.float32)
    return y


def _decode(codes: Tensor, scales: Tensor, zeros: Tensor, codec: Affine) -> Tensor:
    import torch
    from torchao.quantization.quant_primitives import dequantize_affine

    low, high = -(2 ** (codec.bits - 1)), 2 ** (codec.bits - 1) - 1
    weight: Tensor
    if codec.group:
        block = [1, codec.group]
        weight = dequantize_affine(codes, block, scales, zeros, torch.int8, low, high, output_dtype=torch.float32)
    else:
        dequantize = torch.ops.quantized_decomposed.dequantize_per_channel
        weight = dequantize(codes, scales, zeros, 0, low, high, torch.int8)
    return weight


def _embedding(codec: Affine, notes: dict[str, None]) -> nn.Module:
    import torch
    from executorch.exir.passes import _quant_patterns_and_replacements  # noqa: F401  defines embedding_byte
    from executorch.kernels import quantized  # noqa: F401  and this its out variant

    notes["The int8 embedding needs ExecuTorch's quantized kernels (quantized_ops_lib) linked into the app."] = None

    class Embedding(torch.nn.Module):
        codes: Tensor
        scales: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", codec.codes.clone())
            self.register_buffer("scales", codec.scales.clone() if codec.group else codec.scales[:, 0].clone())

        def forward(self, indices: Tensor) -> Tensor:
            y: Tensor = torch.ops.quantized_decomposed.embedding_byte(self.codes, self.scales, None, -128, 127, indices)
            return y

    return Embedding()
