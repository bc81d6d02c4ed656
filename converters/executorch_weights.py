"""Weights of a .pte file by kind, found in it by the hash of their bytes.

What a graph's layers should have become in the file is computed here; whatever the file holds beside is `other`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from ferrule.converters.coded_sites import CodedSite, coded_sites
from ferrule.converters.executorch_layers import pad_codes
from ferrule.converters.pte import Pte, read_bytes
from ferrule.converters.static_int8 import fit_kernels
from ferrule.program import StoredWeights

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from ferrule.model import Captured

__all__ = ["stored_weights"]


@dataclass(frozen=True)
class _Expected:
    """A tensor as the file should hold it: elements of weight that it stands for (0 for scales), and its digest."""

    kind: str
    elements: int
    digest: str


def stored_weights(pte: Pte, graphs: Mapping[str, Captured]) -> tuple[StoredWeights, ...]:
    """Bytes of linear layers, embeddings and the rest, each piece of data counted once."""
    expected = {e.digest: e for graph in graphs.values() for e in _expected(graph.program)}
    sizes: dict[str, int] = defaultdict(int)
    elements: dict[str, int] = defaultdict(int)
    for digest, size, count in set(_pieces(pte)):
        known = expected.get(digest)
        kind = known.kind if known else "other"
        sizes[kind] += size
        elements[kind] += known.elements if known else count
    order = ("linear", "embedding", "other")
    return tuple(StoredWeights(kind, elements[kind], sizes[kind]) for kind in order if sizes[kind])


def _pieces(pte: Pte) -> Iterator[tuple[str, int, int]]:
    """Digest, bytes and elements of all named data (float32, where it is not ours) and constants."""
    for segment in pte.named.values():
        data = read_bytes(pte, segment)
        yield sha256(data).hexdigest(), len(data), len(data) // 4
    for constant in pte.constants.values():
        data = read_bytes(pte, constant.segment)
        yield sha256(data).hexdigest(), len(data), constant.elements


def _expected(program: ExportedProgram) -> Iterator[_Expected]:
    for site in coded_sites(program):
        yield from _expected_site(site)
    for node in program.graph.nodes:
        kind = _PLAIN.get(str(node.target)) if node.op == "call_function" else None
        if kind is not None:
            weight = _held(program, node.args[1 if kind == "linear" else 0])
            if weight is not None:
                yield _Expected(kind, weight.numel(), _digest(weight))


_PLAIN = {"aten.linear.default": "linear", "aten.embedding.default": "embedding"}


def _expected_site(site: CodedSite) -> Iterator[_Expected]:
    from ferrule.codec import Affine, decode, pack_codes

    weight, codec = site.codec.codes.numel(), fit_kernels(site).codec
    if not isinstance(codec, Affine):  # held by our kernel, or decoded
        if codec.bits in (2, 4):
            yield _Expected(site.kind, weight, _digest(pack_codes(codec.codes, codec.bits)))
        yield _Expected(site.kind, 0, _digest(codec.table))
        yield _Expected(site.kind, 0, _digest(codec.scales))
    elif codec.bits == 4 and site.kind == "linear":
        yield _Expected(site.kind, weight, _digest(_pack(pad_codes(codec).codes)))
        yield _Expected(site.kind, 0, _digest(codec.scales.bfloat16() if codec.group else codec.scales))
    else:
        yield _Expected(site.kind, weight, _digest(codec.codes))
        yield _Expected(site.kind, 0, _digest(codec.scales))
    yield _Expected(site.kind, weight, _digest(decode(codec)))


def _pack(codes: Tensor) -> Tensor:
    """XNNPACK's int4: code + 8, two a byte, the first in the low half; rows padded to whole bytes."""
    import torch

    # An odd row is padded before 8 is added: the missing column is code 0.
    shifted = torch.nn.functional.pad(codes, (0, codes.shape[1] % 2)).to(torch.uint8) + 8
    return shifted[:, 1::2] << 4 | shifted[:, ::2]


def _held(program: ExportedProgram, node: object) -> Tensor | None:
    signature = program.graph_signature
    name = str(getattr(node, "name", ""))
    path = signature.inputs_to_parameters.get(name) or signature.inputs_to_buffers.get(name)
    return None if path is None else program.state_dict.get(path)


def _digest(tensor: Tensor) -> str:
    import torch

    return sha256(tensor.detach().contiguous().view(torch.uint8).numpy().data).hexdigest()
