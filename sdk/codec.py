"""Codecs: what the bytes of a compressed weight mean.

`Affine`: small integers, one scale for each row or for each group of columns. Scales are rounded when they are chosen,
and the codes are computed against the rounded ones, so that every target, whichever precision it keeps scales in, holds
exactly the same weight: to float16 values for rows (Core ML stores those), and to values that bfloat16 holds as well
for groups (XNNPACK, under ExecuTorch and LiteRT, keeps group scales in bfloat16).

`Lookup`: indices into a palette of a few float16 values, for the whole matrix or for each group of rows; made by
`ferrule.palette`. `Range`: int8 activations whose scale was chosen on calibration data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Affine",
    "Codec",
    "Lookup",
    "Range",
    "Rounding",
    "decode",
    "encode_affine",
    "pack_codes",
    "spread_scales",
    "stored_bytes",
]

Rounding = str
"""`rtn` takes the scale from the largest weight; `mse` searches the scale of least (weighted) squared error."""

_SMALLEST_SCALE = 2.0**-24  # the smallest positive float16
_LARGEST_SCALE = 65280.0  # the largest value that float16 and bfloat16 both hold
_SEARCH_VALUES = 1 << 17  # weights searched at a time, so that temporaries stay in the cache


@dataclass(frozen=True)
class Affine:
    """weight[r, c] = codes[r, c] * scales[r, c // group]; symmetric, no zero point.

    codes: int8 [rows, columns], within [-2^(bits-1), 2^(bits-1) - 1], one code a byte in memory.
    scales: float32 [rows, groups], values that float16 holds exactly.
    group: columns that share a scale; 0 means the whole row.
    """

    codes: Tensor
    scales: Tensor
    bits: int
    group: int = 0


@dataclass(frozen=True)
class Lookup:
    """weight[r, c] = table[r // group, codes[r, c]] * scales[r, 0].

    codes: uint8 [rows, columns], within [0, 2^bits - 1], one code a byte in memory.
    table: float32 [palettes, 2^bits], values that float16 holds exactly, rising along a palette.
    scales: float32 [rows, 1], values that float16 holds exactly; all one where rows have no scale of their own.
    group: rows that share a palette, a divisor of their number; 0 means all of them.
    """

    codes: Tensor
    table: Tensor
    scales: Tensor
    bits: int
    group: int = 0


Codec = Affine | Lookup


@dataclass(frozen=True)
class Range:
    """Static int8 activations: code = clamp(round(x / scale) + zero_point, -128, 127)."""

    scale: float
    zero_point: int

    @staticmethod
    def between(low: float, high: float) -> Range:
        """The range that holds [low, high] and zero; its scale is the next normal float16, which Core ML stores."""
        import numpy as np

        low, high = min(low, 0.0), max(high, 0.0)
        wanted = min(max((high - low) / 255, 2.0**-14), _LARGEST_SCALE)
        near = np.float16(wanted)
        scale = float(near if near >= wanted else np.nextafter(near, np.float16(np.inf)))
        return Range(scale, max(-128, min(127, -128 - round(low / scale))))


def encode_affine(
    weight: Tensor, bits: int, group: int = 0, rounding: Rounding = "rtn", importance: Tensor | None = None
) -> Affine:
    """Encode a matrix [rows, columns] as `bits`-bit codes with a scale per row (group 0) or per column group.

    importance: float [columns], the mean square of each input feature; weighs the error in `mse`.
    A last group shorter than `group` has a scale of its own. Raises ValueError for a rounding not known.
    """
    import torch

    rows, columns = weight.shape
    width = group or columns
    groups = -(-columns // width)
    padded = torch.nn.functional.pad(weight.detach().float(), (0, groups * width - columns))
    blocks = padded.view(rows, groups, width)
    top = 2 ** (bits - 1) - 1
    plain = blocks.abs().amax(-1) / top
    if rounding == "rtn":
        scales = _round_scale(plain, group)
    elif rounding == "mse":
        weights = torch.ones(columns) if importance is None else importance.float().clamp_min(1e-12)
        spread = torch.nn.functional.pad(weights, (0, groups * width - columns)).view(1, groups, width)
        step = max(1, _SEARCH_VALUES // (groups * width))
        parts = zip(blocks.split(step), plain.split(step), strict=True)
        scales = torch.cat([_search_scale(b, p, bits, group, spread) for b, p in parts])
    else:
        raise ValueError(f"rounding is {rounding!r}; allowed: rtn, mse")
    codes = _quantize(blocks, scales, bits).view(rows, groups * width)[:, :columns]
    return Affine(codes.to(torch.int8).contiguous(), scales, bits, group if group < columns else 0)


def decode(codec: Codec) -> Tensor:
    """The weight that the codec stands for, float32 [rows, columns]."""
    if isinstance(codec, Lookup):
        rows, columns = codec.codes.shape
        indices = codec.codes.long().view(codec.table.shape[0], -1)
        return codec.table.gather(1, indices).view(rows, columns) * codec.scales
    return codec.codes.float() * spread_scales(codec.scales, codec.codes.shape[1], codec.group)


def spread_scales(scales: Tensor, columns: int, group: int) -> Tensor:
    """Scales [rows, groups] repeated to one for each column (or [rows, 1] when a row has one scale)."""
    return scales.repeat_interleave(group, dim=1)[:, :columns] if group else scales


def stored_bytes(codec: Codec, scale_bytes: int = 2) -> int:
    """Bytes of codes packed without gaps plus their scales and palettes; scales that are all one cost nothing."""
    codes = -(-codec.codes.numel() * codec.bits // 8)
    if isinstance(codec, Lookup):
        scales = 0 if bool((codec.scales == 1).all()) else codec.scales.numel()
        return int(codes + (codec.table.numel() + scales) * scale_bytes)
    return int(codes + codec.scales.numel() * scale_bytes)


def _round_scale(scale: Tensor, group: int) -> Tensor:
    coarse = scale.bfloat16().float() if group else scale
    return coarse.clamp_max(_LARGEST_SCALE).half().float().clamp_min(_SMALLEST_SCALE)


def _quantize(blocks: Tensor, scales: Tensor, bits: int) -> Tensor:
    top = 2 ** (bits - 1) - 1
    return (blocks / scales.unsqueeze(-1)).round().clamp(-top - 1, top)


def _search_scale(blocks: Tensor, plain: Tensor, bits: int, group: int, spread: Tensor) -> Tensor:
    """Try shrunken scales (clipping outliers), then refit each by least squares; keep the best per group."""
    import torch

    best = _round_scale(plain, group)
    best_error = _error(blocks, best, bits, spread)
    for ratio in torch.linspace(0.65, 1.1, 31).tolist():
        scale = _round_scale(plain * ratio, group)
        codes = _quantize(blocks, scale, bits)
        # Least squares for fixed codes: scale = <w, q> / <q, q>, weighted.
        refit = (blocks * codes * spread).sum(-1) / (codes.square() * spread).sum(-1).clamp_min(1e-20)
        for candidate in (scale, _round_scale(refit, group)):
            error = _error(blocks, candidate, bits, spread)
            better = error < best_error
            best = torch.where(better, candidate, best)
            best_error = torch.where(better, error, best_error)
    return best


def _error(blocks: Tensor, scales: Tensor, bits: int, spread: Tensor) -> Tensor:
    restored = _quantize(blocks, scales, bits) * scales.unsqueeze(-1)
    return ((blocks - restored).square() * spread).sum(-1)


def pack_codes(codes: Tensor, bits: int) -> Tensor:
    """Codes of 2 or 4 bits [rows, depth] as bytes [rows, ceil(depth * bits / 8)], uint8, rows padded with zeros.

    codes: uint8, or int8 in two's complement. The first code of a byte lies in its lowest bits.
    """
    import torch

    per_byte = 8 // bits
    low = codes.view(torch.uint8) & (2**bits - 1)
    parts = torch.nn.functional.pad(low, (0, -codes.shape[1] % per_byte)).reshape(codes.shape[0], -1, per_byte)
    packed = torch.zeros(parts.shape[:2], dtype=torch.uint8)
    for place in range(per_byte):
        packed |= parts[..., place] << (bits * place)
    return packed
