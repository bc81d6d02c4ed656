"""Which codecs the kernels read as they are; the others are refused, or decoded where the user allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferrule.converters.codec_names import codec_name
from ferrule.converters.coded_sites import CodedSite, coded_sites, float_layer, recapture
from ferrule.errors import LoweringError
from ferrule.model import Captured

if TYPE_CHECKING:
    from torch import nn

__all__ = ["hold_codecs"]


def hold_codecs(graph: Captured, expand: bool, notes: dict[str, None]) -> Captured:
    """The graph with layers in float in place of those that no kernel reads, if `expand` allows it.

    Sentences for the user go into `notes`. Raises LoweringError FER-LOW-002 without `expand`.
    """
    refused = {site.name: reason for site in coded_sites(graph.program) if (reason := _refusal(site))}
    if not refused:
        return graph

    def make(site: CodedSite) -> nn.Module | None:
        reason = refused.get(site.name)
        if reason is None:
            return None
        if not expand:
            raise LoweringError(
                "FER-LOW-002",
                f"Target native cannot hold {codec_name(site)} of layer {site.name!r}: {reason}.",
                "Use w8, w8a8, w8a8-static, w4g32, lut4 or emb8, or allow expanding to float32.",
            )
        notes[f"{codec_name(site)} is expanded to float32 in the file: {reason}."] = None
        return float_layer(site)

    return recapture(graph, make)


def _refusal(site: CodedSite) -> str | None:
    """Why no kernel reads the site's codec; None where one does."""
    import torch

    from ferrule.codec import Affine

    codec = site.codec
    is_affine = isinstance(codec, Affine)
    if site.kind == "embedding":
        return None if is_affine and codec.bits == 8 else "its tables are of int8 codes with scales"
    if not is_affine:
        return None if codec.bits in (2, 4) else "its palettes have 4 or 16 entries"
    if not codec.group or codec.group >= codec.codes.shape[1]:
        return None
    if codec.bits > 4:
        return "its int8 weights have one scale for each row"
    if codec.group % 32 or not torch.equal(codec.scales, codec.scales.bfloat16().float()):
        return "its groups are multiples of 32 columns with scales that bfloat16 holds exactly"
    return None
