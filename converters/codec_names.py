"""What a codec is called in messages, and what to say where a target has nothing like it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferrule.codec import Lookup

if TYPE_CHECKING:
    from ferrule.converters.coded_sites import CodedSite

__all__ = ["LOOKUP_ADVICE", "codec_name"]

LOOKUP_ADVICE = (
    "Use a Core ML target (coreml, executorch-coreml), which holds palettes, or w8a8 or w4g32 here, or allow "
    "expanding to float32 (--expand) or, on executorch and onnx with 2 or 4 bits, Ferrule's own kernels (--kernels)."
)


def codec_name(site: CodedSite) -> str:
    """`int8 linear weights per row with static int8 activations`, `4-bit palette indices of embedding weights`, …"""
    codec = site.codec
    if isinstance(codec, Lookup):
        return f"{codec.bits}-bit palette indices of {site.kind} weights"
    group = f"in groups of {codec.group}" if codec.group else "per row"
    if site.kind == "embedding":
        return f"int{codec.bits} embedding weights {group}"
    activations = ("float", "int8", "static int8")[site.activation]
    if site.kind == "conv":
        return f"int{codec.bits} convolution weights per channel with {activations} activations"
    return f"int{codec.bits} linear weights {group} with {activations} activations"
