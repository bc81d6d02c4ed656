"""Passes over the graph of a native program that leave out what changes nothing or is computed twice."""

from __future__ import annotations

from typing import Any

from ferrule.converters.native_graph import CONSTANT, Graph, Node, same_shape

__all__ = ["drop_identities", "share_equals"]


def drop_identities(graph: Graph) -> None:
    """x + 0 of whole numbers, x * 1, x / 1, x ** 1, and `all true and x`, are x."""
    for node in graph.nodes():
        kept = _kept(node)
        if kept is not None and kept.dtype == node.dtype and same_shape(kept.shape, node.shape):
            graph.exchange(node, kept)


def _kept(node: Node) -> Node | None:
    """What the node is the same as; None where it is nothing but itself."""
    if node.op == "cast":
        return node.inputs[0]
    if node.op == "logical" and node.attributes["fn"] == "and":
        a, b = node.inputs
        return b if _is_true(a) else a if _is_true(b) else None
    if node.op != "binary" or len(node.inputs) != 1 or node.attributes.get("reversed"):
        return None
    fn, value = node.attributes["fn"], node.attributes["value"]
    is_whole = node.dtype in ("int64", "int32")  # of floats, -0 + 0 is 0
    same = {"add": value == 0 and is_whole, "sub": value == 0, "mul": value == 1, "div": value == 1, "pow": value == 1}
    return node.inputs[0] if same.get(fn) else None


def _is_true(node: Node) -> bool:
    return node.op == "fill" and node.dtype == "bool" and node.attributes["value"] == 1


def share_equals(graph: Graph) -> None:
    """Nodes of one op, with the same attributes and inputs, are computed once: ranges, masks, angles of positions."""
    known: dict[Any, Node] = {}
    for node in graph.nodes():
        if node.op == CONSTANT or not node.is_computed:
            continue
        attributes = tuple((key, _comparable(value)) for key, value in sorted(node.attributes.items()))
        key = (node.op, node.dtype, tuple(map(str, node.shape)), attributes, tuple(id(each) for each in node.inputs))
        first = known.setdefault(key, node)
        if first is not node:
            graph.exchange(node, first)


def _comparable(value: Any) -> Any:
    if hasattr(value, "data_ptr"):
        return id(value)
    return tuple(map(_comparable, value)) if isinstance(value, list | tuple) else (type(value).__name__, str(value))
