"""Coded ops that a vendor's runtime has nothing for, as calls of our kernels inside it (docs/custom_ops.md).

before   x ── ferrule.coded_linear(codes, scales, table, bias) ── y          an index a byte
after    x ── ferrule.lookup_linear(packed codes, scales, table, bias) ── y  two or four a byte
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferrule.codec import Lookup
from ferrule.converters.codec_names import codec_name

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from ferrule.converters.coded_sites import CodedSite

__all__ = ["REASON", "UNIT", "calls_kernels", "kernel_layer"]

UNIT = "cpu:ferrule"
REASON = "Ferrule's kernel, from a library that the app loads beside the runtime"
"""How the delegation table tells of them."""


def calls_kernels(program: ExportedProgram) -> bool:
    """Whether a graph calls ops of `ferrule.runtime.torch_ops`."""
    from ferrule.runtime.torch_ops import OPS

    ours = {f"ferrule.{name}.default" for name in OPS}
    return any(str(node.target) in ours for node in program.graph.nodes if node.op == "call_function")


def kernel_layer(site: CodedSite, notes: dict[str, None]) -> nn.Module | None:
    """A layer that calls our kernel for palettes of 4 or 16 values; None for what it does not read.

    A sentence for the user goes into `notes`.
    """
    codec = site.codec
    if site.kind != "linear" or not isinstance(codec, Lookup) or codec.bits not in (2, 4) or site.ranges is not None:
        return None
    notes[f"{codec_name(site)} are read by Ferrule's kernel: the app must load its library beside the runtime."] = None
    return _lookup_linear(site, codec)


def _lookup_linear(site: CodedSite, codec: Lookup) -> nn.Module:
    import torch

    from ferrule.codec import pack_codes
    from ferrule.runtime.torch_ops import digest_weights

    class LookupLinear(torch.nn.Module):
        codes: Tensor
        scales: Tensor
        table: Tensor
        bias: Tensor | None

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("codes", pack_codes(codec.codes, codec.bits))
            self.register_buffer("scales", codec.scales.view(-1).clone())
            self.register_buffer("table", codec.table.clone())
            self.register_buffer("bias", site.bias)
            self.digest = digest_weights(self.codes, self.scales, self.table, self.bias)

        def forward(self, x: Tensor) -> Tensor:
            held = (self.codes, self.scales, self.table, self.bias)
            y: Tensor = torch.ops.ferrule.lookup_linear(
                x.float(), *held, codec.bits, codec.group, bool(site.activation), self.digest
            )
            return y

    return LookupLinear()
