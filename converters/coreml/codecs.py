"""Our codecs in Core ML: which are held as codes and how, which are refused or decoded to plain weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ferrule.codec import Lookup
from ferrule.converters.coded_sites import CodedSite, coded_sites, float_layer, recapture
from ferrule.errors import LoweringError

if TYPE_CHECKING:
    from torch import nn

    from ferrule.model import Captured

__all__ = ["affine_constant", "formats_of", "half_scale", "hold_codecs", "lookup_constant"]

_AFFINE_BITS = (4, 8)  # codes that constexpr_blockwise_shift_scale holds with scales of its own
_LOOKUP_BITS = (1, 2, 3, 4, 6, 8)  # indices that constexpr_lut_to_dense holds
_SMALLEST_HALF = 2.0**-14  # the smallest normal float16: below it a device may flush to zero


def affine_constant(codes: Any, scales: Any, bits: int, group: int) -> Any:
    """The constant of an `Affine` codec; columns are filled up to whole groups with zero codes."""
    import numpy as np
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    columns = codes.shape[1]
    filled = np.pad(codes, ((0, 0), (0, -columns % group if group else 0)))
    narrow = filled.astype(types.np_int4_dtype) if bits == 4 else filled
    return mb.constexpr_blockwise_shift_scale(data=narrow, scale=scales)


def lookup_constant(codes: Any, table: Any, bits: int) -> Any:
    """The constant of a `Lookup` codec without the scales of its rows: those do not belong into the weight.

    The Neural Engine wants them after the product (coremltools' pass reorder_lut_per_channel_scale says so), and a
    constexpr_blockwise_shift_scale around palettes has been reported to keep models from loading
    (apple/coremltools pull request 2688).
    """
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    narrow = types.nptype_from_builtin(types.string_to_builtin(f"uint{bits}"))
    return mb.constexpr_lut_to_dense(indices=codes.astype(narrow), lut=table.reshape(len(table), 1, -1, 1))


def half_scale(scale: float) -> float:
    """The scale of static activations as Core ML holds it: float16, and no subnormal number."""
    import numpy as np

    return float(np.float16(min(max(scale, _SMALLEST_HALF), 65504.0)))


def formats_of(site: CodedSite) -> tuple[str, ...]:
    """Names in a device's profile of what a coded op asks of it; none for a codec that Core ML lacks."""
    codec = site.codec
    if _refusal(site):
        return ()
    if isinstance(codec, Lookup):
        weight = "palette-tensor" if len(codec.table) == 1 else "palette-group"
    else:
        weight = f"int{codec.bits}-{'block' if codec.group else 'channel'}"
    return (weight, "activations-int8-static") if site.ranges else (weight,)


def hold_codecs(
    graphs: Mapping[str, Captured], target: str, expand: bool
) -> tuple[dict[str, Captured], tuple[str, ...]]:
    """Graphs whose codecs Core ML holds, and a note for each that had to be decoded.

    Raises LoweringError FER-LOW-002, unless `expand`, for convolutions, for affine codes of another number of bits than
    4 or 8 and for palettes of another than 1, 2, 3, 4, 6 or 8, or that do not divide a matrix's rows evenly.
    """
    held = dict(graphs)
    notes: dict[str, None] = {}
    for name, graph in graphs.items():
        odd = [site for site in coded_sites(graph.program) if _refusal(site)]
        if not odd:
            continue
        found = f"Layer {odd[0].name!r} has {_refusal(odd[0])}"
        if not expand:
            raise LoweringError(
                "FER-LOW-002",
                f"{found}; target {target!r} holds, of linear and embedding layers, affine codes of 4 and 8 bits "
                "(constexpr_blockwise_shift_scale), and palettes of 1, 2, 3, 4, 6 and 8 bits for equal groups of rows "
                "(constexpr_lut_to_dense).",
                "Use a recipe such as w4g32, lut4 or w8, or allow the weights to be decoded to float16.",
            )
        held[name] = recapture(graph, _decoded)
        notes[f"{found}; it and {len(odd) - 1} others were decoded to float16, which saves nothing."] = None
    return held, tuple(notes)


def _refusal(site: CodedSite) -> str:
    """What Core ML cannot hold of a site's codec, or ""."""
    codec = site.codec
    if site.kind == "conv":
        return "int8 convolution weights with static int8 inputs"
    if not isinstance(codec, Lookup):
        return "" if codec.bits in _AFFINE_BITS else f"{codec.bits}-bit affine codes"
    rows, palettes = len(codec.codes), len(codec.table)
    if codec.bits not in _LOOKUP_BITS:
        return f"{codec.bits}-bit palettes"
    return f"{palettes} palettes for {rows} rows" if rows % palettes else ""


def _decoded(site: CodedSite) -> nn.Module | None:
    """A plain layer with the decoded weight, for codecs that the target lacks; ranges of activations go with it."""
    return float_layer(site) if _refusal(site) else None
