"""Our codecs in Core ML: which are held as codes and how, which are refused or decoded to plain weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ferrule.converters.coded_sites import CodedSite, coded_sites, float_layer, recapture
from ferrule.errors import LoweringError

if TYPE_CHECKING:
    from torch import nn

    from ferrule.model import Captured

__all__ = ["HELD_BITS", "coded_constant", "hold_codecs"]

HELD_BITS = (4, 8)
"""Bits of the codes that constexpr_blockwise_shift_scale holds with scales of its own."""


def coded_constant(codes: Any, scales: Any, bits: int, group: int) -> Any:
    """The constant of a codec; columns are filled up to whole groups with zero codes."""
    import numpy as np
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    columns = codes.shape[1]
    filled = np.pad(codes, ((0, 0), (0, -columns % group if group else 0)))
    narrow = filled.astype(types.np_int4_dtype) if bits == 4 else filled
    return mb.constexpr_blockwise_shift_scale(data=narrow, scale=scales)


def hold_codecs(
    graphs: Mapping[str, Captured], target: str, expand: bool
) -> tuple[dict[str, Captured], tuple[str, ...]]:
    """Graphs whose codecs Core ML holds, and a note for each that had to be decoded.

    Raises LoweringError FER-LOW-002 for another number of bits than 4 or 8, unless `expand`.
    """

    held = dict(graphs)
    notes: dict[str, None] = {}
    for name, graph in graphs.items():
        odd = [site for site in coded_sites(graph.program) if site.codec.bits not in HELD_BITS]
        if not odd:
            continue
        found = f"Layer {odd[0].name!r} has {odd[0].codec.bits}-bit affine codes"
        if not expand:
            raise LoweringError(
                "FER-LOW-002",
                f"{found}; target {target!r} holds 4 and 8 bits (constexpr_blockwise_shift_scale).",
                "Use a recipe such as w4g32 or w8, or allow the weights to be decoded to float16.",
            )
        held[name] = recapture(graph, _decoded)
        notes[f"{found}; it and {len(odd) - 1} others were decoded to float16, which saves nothing."] = None
    return held, tuple(notes)


def _decoded(site: CodedSite) -> nn.Module | None:
    """A plain layer with the decoded weight, for codecs that the target lacks."""
    return None if site.codec.bits in HELD_BITS else float_layer(site)
