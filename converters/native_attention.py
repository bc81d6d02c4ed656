"""Which attention of a native program multiplies int8 codes instead of float32 numbers.

Where a recipe quantizes the inputs of linear layers to eight bits, the products within attention are taken as exactly:
queries and keys get a scale for each token, values one for each channel (csrc/include/ferrule/attention_i8.h).
"""

from __future__ import annotations

from ferrule.converters.native_graph import Graph, Node, same_extent

__all__ = ["multiply_codes"]

_LEAST_KEYS = 16
_NOTE = (
    "Attention multiplies int8 codes, as the recipe's linear layers do: queries and keys quantized for each token, "
    "values for each channel."
)


def multiply_codes(graph: Graph, notes: dict[str, None]) -> None:
    """Set `products` of attention nodes to int8 where any linear layer quantizes its input, and add a note if so.

    Left in float32: masks that differ by head or query, and fewer than 16 keys.
    """
    nodes = graph.nodes()
    if not any(node.op == "linear" and node.attributes.get("input") in ("dynamic8", "static8") for node in nodes):
        return
    for node in nodes:
        if node.op == "attention" and _qualifies(node):
            node.attributes["products"] = "int8"
            notes[_NOTE] = None


def _qualifies(node: Node) -> bool:
    layout, mask = node.attributes["layout"], node.inputs[-1] if node.attributes["mask"] else None
    if mask is not None and not all(same_extent(each, 1) for each in mask.shape[1:3]):
        return False
    keys = node.inputs[0 if layout == "qkv" else 1].shape[2 if layout == "bhsd" else 1]
    return not isinstance(keys, int) or keys >= _LEAST_KEYS
