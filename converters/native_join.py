"""Products of the same rows by several weights become one product: the rows are read, and quantized, once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ferrule.converters.native_columns import read_joined
from ferrule.converters.native_graph import Graph, Node

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["join", "join_products", "join_projections"]

_ALIKE = ("kind", "bits", "input", "input_scale", "input_zero")


def join(linears: Sequence[Node]) -> Node | None:
    """One node with the results side by side; None where their weights are not alike or they read other rows."""
    first = linears[0]
    if not all(_is_plain(each) and each.inputs[0] is first.inputs[0] for each in linears):
        return None
    if any(each.attributes.get(key) != first.attributes.get(key) for each in linears for key in _ALIKE):
        return None
    kind = first.attributes["kind"]
    if kind == "affine" and len({each.attributes.get("group") for each in linears}) > 1:
        return None
    attributes = {**first.attributes, **{key: _rows_of(linears, key) for key in ("weight", "codes", "bias")}}
    attributes["scales"] = _rows_of(linears, "scales", 1.0)
    if kind == "lookup":
        attributes |= _palettes(linears)
    width = sum(_rows(each) for each in linears)
    return Node("linear", list(first.inputs), attributes, first.dtype, (*first.shape[:-1], width), first.source)


def _is_plain(node: Node) -> bool:
    return node.op == "linear" and len(node.inputs) == 1 and node.attributes.get("activation") is None


def _rows(linear: Node) -> int:
    return int(linear.shape[-1])


def _rows_of(linears: Sequence[Node], key: str, absent: float = 0.0) -> Tensor | None:
    """An array of all rows; `absent` stands where one of them has none."""
    import torch

    parts = [each.attributes.get(key) for each in linears]
    if all(part is None for part in parts):
        return None
    return torch.cat([torch.full((_rows(n),), absent) if p is None else p for p, n in zip(parts, linears, strict=True)])


def _palettes(linears: Sequence[Node]) -> dict[str, Any]:
    """Palettes for groups of rows that are a part of each one's."""
    import torch

    groups = [each.attributes.get("group") or _rows(each) for each in linears]
    group = math.gcd(*groups)
    tables = [
        each.attributes["table"].repeat_interleave(g // group, 0) for each, g in zip(linears, groups, strict=True)
    ]
    return {"group": group, "table": torch.cat(tables)}


def join_projections(graph: Graph) -> None:
    """Queries, keys and values that are products of the same rows become one product, which attention reads."""
    for node in graph.nodes():
        if node.op != "attention" or node.attributes["layout"] != "bshd":
            continue
        chains = [_projection(each) for each in node.inputs[:3]]
        linears = [chain[-1] for chain in chains]
        ropes = [chain[0] if chain[0].op == "rope" else None for chain in chains]
        if not all(len(each.shape) == 3 for each in linears) or not _turns_alike(ropes):
            continue
        joined = join(linears)
        if joined is None or _read_elsewhere(graph, node, chains):
            continue
        if ropes[0] is not None:
            joined = _turn(joined, ropes[0], node.attributes["heads"] + node.attributes["kv_heads"], node.shape[-1])
        read_joined(graph, node, joined)


def _projection(node: Node) -> list[Node]:
    """What attention reads and what that is made of, down to the product: heads that may be turned, rows of them."""
    chain = [node]
    if node.op == "rope" and node.attributes["layout"] == "bshd":
        chain.append(node.inputs[0])
    if chain[-1].op == "reshape":
        chain.append(chain[-1].inputs[0])
    return chain


def _read_elsewhere(graph: Graph, attention: Node, chains: Sequence[Sequence[Node]]) -> bool:
    """Whether any but the attention, and the merging of its keys, reads the products or what is made of them."""
    uses = graph.uses()
    merging = sum(n.op == "token_match" and n.inputs[0] is attention.inputs[1] for n in graph.nodes())
    for index, (first, *rest) in enumerate(chains):
        if uses[id(first)] != 1 + (merging if index == 1 else 0) or any(uses[id(each)] != 1 for each in rest):
            return True
    return False


def _turns_alike(ropes: Sequence[Node | None]) -> bool:
    """Whether queries and keys are turned by the same tables, or neither is; values never."""
    q, k, v = ropes
    if q is None or k is None:
        return q is k is v
    return v is None and q.attributes == k.attributes and all(map(_same, q.inputs[1:], k.inputs[1:]))


def _same(a: Node, b: Node) -> bool:
    return a is b


def _turn(joined: Node, rope: Node, heads: int, width: int) -> Node:
    """The first heads of the rows, turned; rows again."""
    shape = (*joined.shape[:-1], joined.shape[-1] // width, width)
    cut = Node("reshape", [joined], {"shape": list(shape)}, "float32", shape, joined.source)
    turned = Node("rope", [cut, *rope.inputs[1:]], {**rope.attributes, "heads": heads}, "float32", shape, rope.source)
    return Node("reshape", [turned], {"shape": list(joined.shape)}, "float32", joined.shape, rope.source)


def join_products(graph: Graph) -> None:
    """Other products of the same rows: one product, of which each takes its columns."""
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes():
        if _is_plain(node):
            readers.setdefault(id(node.inputs[0]), []).append(node)
    for linears in readers.values():
        joined = join(linears) if len(linears) > 1 else None
        start = 0
        for each in linears if joined is not None else ():
            end = start + _rows(each)
            attributes = {"axis": len(each.shape) - 1, "start": start, "end": end, "step": 1}
            graph.exchange(each, Node("slice", [joined], attributes, "float32", each.shape, each.source))  # type: ignore[list-item]
            start = end
