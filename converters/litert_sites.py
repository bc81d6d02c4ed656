"""What becomes of a coded op on LiteRT, and the mark that stands for it while the toolkit converts the graph.

The toolkit never sees the weights: a mark is a custom op that takes the activations only, so nothing can be folded into
the codes, and they reach the file exactly as they are.

    before   x ── ferrule.coded_linear(codes, scales, bias) ── y
    after    x ── [pad] ── ferrule_litert.site(number) ── y      (litert_flatbuffer puts the native op in its place)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ferrule.codec import Lookup
from ferrule.converters.codec_names import LOOKUP_ADVICE, codec_name
from ferrule.converters.coded_sites import CONVOLUTION_ADVICE, CodedSite, float_layer
from ferrule.converters.static_int8 import static_refusal
from ferrule.errors import LoweringError

if TYPE_CHECKING:
    from torch import nn


__all__ = ["BLOCK", "MARK", "SiteBook", "choose_form", "register_mark"]

MARK = "custom_call.ferrule_site"
"""Custom code of a mark in the toolkit's file; only this prefix survives its conversion of unknown calls."""

BLOCK = 32
"""XNNPACK multiplies blocks of a multiple of this many columns that share a scale."""

_FORMS: Mapping[tuple[str, int, bool, int], str] = {
    # kind, bits, has groups, activation -> the native form
    ("linear", 8, False, 1): "dynamic",
    ("linear", 4, False, 1): "dynamic",
    ("linear", 4, True, 1): "dynamic",
    ("linear", 8, False, 0): "dequantize",
    ("linear", 8, False, 2): "static",
    ("embedding", 8, False, 0): "lookup",
    ("embedding", 4, False, 0): "lookup",
}


def choose_form(site: CodedSite) -> str | None:
    """`dynamic`, `dequantize`, `static` or `lookup`; None where LiteRT has no native form for the codec."""
    codec = site.codec
    if isinstance(codec, Lookup):
        return None
    form = _FORMS.get((site.kind, codec.bits, codec.group > 0, site.activation))
    return None if codec.group % BLOCK or _splits_bytes(site) else form


def _splits_bytes(site: CodedSite) -> bool:
    """Rows of an odd number of 4-bit codes begin inside a byte, where the lookup kernel does not look."""
    return site.kind == "embedding" and site.codec.bits == 4 and site.codec.codes.shape[1] % 2 == 1


@dataclass(frozen=True)
class SiteBook:
    """The sites met so far, numbered; entry points and buckets that share codes share a number.

    expand: decode what has no native form (noted), instead of refusing it (LoweringError FER-LOW-002).
    """

    expand: bool
    sites: list[CodedSite]
    notes: list[str]

    def replacement(self, site: CodedSite) -> nn.Module:
        """The module that takes the place of a site: its mark, or a float layer."""
        if choose_form(site) is not None:
            return _mark_module(site, self._number(site))
        if not self.expand:
            found = f"litert: {codec_name(site)} at {site.name!r} have no native form"
            advice = LOOKUP_ADVICE if isinstance(site.codec, Lookup) else _ADVICE[site.kind]
            raise LoweringError("FER-LOW-002", f"{found}: {_reason(site)}.", advice)
        note = f"{codec_name(site)} have no native form on LiteRT and were decoded to float32: {_reason(site)}."
        if note not in self.notes:
            self.notes.append(note)
        return float_layer(site)

    def _number(self, site: CodedSite) -> int:
        keys = [_identity(known) for known in self.sites]
        if _identity(site) in keys:
            return keys.index(_identity(site))
        self.sites.append(site)
        return len(self.sites) - 1


_ADVICE = {
    "conv": CONVOLUTION_ADVICE,
    "linear": "Use w8, w8a8, w8a8-static or w4g32, or allow expansion to float32.",
    "embedding": "Use emb8 (8 bits, one scale a row), or allow expansion to float32.",
}


def _identity(site: CodedSite) -> tuple[object, ...]:
    bias = None if site.bias is None else site.bias.data_ptr()
    codec = site.codec.codes.data_ptr(), site.codec.scales.data_ptr()
    return (site.kind, *codec, bias, site.activation, site.ranges)


def _reason(site: CodedSite) -> str:
    codec = site.codec
    if isinstance(codec, Lookup):
        return "it has no palettes"
    if site.kind == "conv":
        return "its integer convolutions round their outputs to a range, which this codec leaves to the next layer"
    static = static_refusal(site)
    if static is not None:
        return static
    if codec.group % BLOCK and site.kind == "linear":
        return f"XNNPACK takes groups of a multiple of {BLOCK} columns only"
    if _splits_bytes(site):
        return "the lookup kernel takes rows of an even number of 4-bit codes"
    if site.kind == "embedding":
        return "the lookup kernel takes one scale a row"
    if codec.bits == 4:
        return "XNNPACK multiplies 4-bit weights with 8-bit activations only"
    return "XNNPACK takes one scale a row for 8-bit weights"


def register_mark() -> None:
    """Declare the op `ferrule_litert::site` to torch and its lowering to the toolkit; once a process."""
    import torch
    from litert_converter.mlir import ir
    from litert_converter.mlir.dialects import stablehlo
    from litert_torch.backend.lowerings import registry

    if registry.lookup(_declared(torch)) is not None:
        return

    def lower_mark(context: Any, x: Any, number: int, width: int, drop: int) -> Any:
        shape = list(x.type.shape)
        result = ir.RankedTensorType.get([*shape[: len(shape) - drop], width], ir.F32Type.get())
        config = ir.StringAttr.get(str(number))
        return stablehlo.custom_call(call_target_name=MARK, inputs=[x], result=[result], backend_config=config)

    registry.lower(_declared(torch))(lower_mark)


def _declared(torch: Any) -> Any:
    """The op; its schema says: the last `drop` axes of x are replaced by one of length `width`."""
    if not hasattr(torch.ops.ferrule_litert, "site"):
        torch.library.define("ferrule_litert::site", "(Tensor x, int number, int width, int drop) -> Tensor")

        def shape_only(x: Any, number: int, width: int, drop: int) -> Any:
            return x.new_empty((*x.shape[: x.dim() - drop], width), dtype=torch.float32)

        torch.library.register_fake("ferrule_litert::site", shape_only)
    return torch.ops.ferrule_litert.site.default


def _mark_module(site: CodedSite, number: int) -> nn.Module:
    import torch
    from torch import Tensor, nn

    rows, columns = site.codec.codes.shape
    pad = -columns % BLOCK if site.codec.group else 0

    class LinearMark(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.nn.functional.pad(x.float(), (0, pad)) if pad else x.float()
            flat = x.unsqueeze(0) if x.dim() == 1 else x
            y: Tensor = torch.ops.ferrule_litert.site(flat, number, rows, 1)
            return y.squeeze(0) if x.dim() == 1 else y

    class EmbeddingMark(nn.Module):
        def forward(self, indices: Tensor) -> Tensor:
            # The lookup kernel takes indices of rank 1 only.
            y: Tensor = torch.ops.ferrule_litert.site(indices.reshape(-1), number, columns, 0)
            return y.reshape(*indices.shape, columns)

    return LinearMark() if site.kind == "linear" else EmbeddingMark()
