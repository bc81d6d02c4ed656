"""What the tensors of a native program are: weights of which kind of layer, and codes that are packed in the file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferrule.converters.native_graph import Graph, Names
from ferrule.program import StoredWeights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Role", "find_roles", "stored_weights"]

_KINDS = ("linear", "embedding", "other")
_ORDER = {kind: place for place, kind in enumerate(_KINDS)}


@dataclass(frozen=True)
class Role:
    """What a tensor is for. is_scale: it scales weights, which are counted by their codes.

    bits: of each code where the file holds several in a byte, else 8.
    """

    kind: str
    is_scale: bool = False
    bits: int = 8


def find_roles(graphs: Iterable[Graph], names: Names) -> dict[str, Role]:
    """Name of a tensor -> its role; the first of linear, embedding, other for one that several layers share."""
    roles: dict[str, Role] = {}
    for node in (each for graph in graphs for each in graph.nodes()):
        for key, value in node.attributes.items():
            if hasattr(value, "data_ptr"):
                name = names.of_tensor(value)
                role = _role(node.op, key, int(node.attributes.get("bits", 8)), value)
                if name not in roles or _ORDER[role.kind] < _ORDER[roles[name].kind]:
                    roles[name] = role
    return roles


def _role(op: str, key: str, bits: int, tensor: Tensor) -> Role:
    if op not in ("linear", "embedding") or key == "bias":
        return Role("other")
    if key in ("scales", "table"):
        return Role(op, is_scale=True)
    fits = key == "codes" and bits in (2, 4) and tensor.shape[-1] % (8 // bits) == 0
    return Role(op, bits=bits if fits else 8)


def stored_weights(tensors: Mapping[str, Tensor], roles: Mapping[str, Role]) -> tuple[StoredWeights, ...]:
    """Elements and bytes of each kind of weight as the file holds them."""
    rows = []
    for kind in _KINDS:
        of_kind = [(t, role) for name, t in tensors.items() if (role := roles.get(name, Role("other"))).kind == kind]
        if of_kind:
            elements = sum(0 if role.is_scale else t.numel() for t, role in of_kind)
            size = sum(t.numel() * t.element_size() * role.bits // 8 for t, role in of_kind)
            rows.append(StoredWeights(kind, elements, size))
    return tuple(rows)
