"""Passes over the graph of a native program for decoders: their norms, rotations, masks, shared heads and gates.

As in native_fuse, each is a function of the graph that changes it in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ferrule.converters.native_columns import TOKENS_FIRST
from ferrule.converters.native_graph import CONSTANT, Extent, Graph, Node, same_extent, same_shape

__all__ = [
    "apply_gates",
    "find_causal_masks",
    "find_rms_norms",
    "find_rotations",
    "share_heads",
    "turn_tokens_first",
]


def find_rms_norms(graph: Graph) -> None:
    """x * rsqrt(mean(x^2) + epsilon), and then * weight, is rms_norm."""
    uses = graph.uses()
    for node in graph.nodes():
        if not _is_binary(node, "mul", 2):
            continue
        for x, factor in (node.inputs, node.inputs[::-1]):
            epsilon = _epsilon(x, factor)
            if epsilon is not None:
                found = Node("rms_norm", [x], {"epsilon": epsilon}, node.dtype, node.shape, node.source)
                uses[id(found)] = uses.get(id(node), 0)
                graph.exchange(node, found)
                break
    for node in graph.nodes():
        if not _is_binary(node, "mul", 2):
            continue
        for norm, weight in (node.inputs, node.inputs[::-1]):
            plain = norm.op == "rms_norm" and norm.attributes.get("weight") is None and uses.get(id(norm)) == 1
            if plain and weight.op == CONSTANT and same_shape(weight.shape, norm.shape[-1:]):
                attributes = {**norm.attributes, "weight": weight.tensor}
                graph.exchange(node, Node("rms_norm", norm.inputs, attributes, node.dtype, node.shape, norm.source))
                break


def _epsilon(x: Node, factor: Node) -> float | None:
    """Of rsqrt(mean(x^2) + epsilon) over the last axis; None for anything else."""
    if factor.op != "unary" or factor.attributes["fn"] != "rsqrt" or not _is_binary(factor.inputs[0], "add", 1):
        return None
    added = factor.inputs[0]
    mean = added.inputs[0]
    if mean.op != "reduce" or mean.attributes["fn"] != "mean" or not mean.attributes["keep"]:
        return None
    square = mean.inputs[0]
    is_square = _is_binary(square, "pow", 1) and square.attributes["value"] == 2
    is_square = is_square or (_is_binary(square, "mul", 2) and square.inputs[0] is square.inputs[1])
    if not is_square or square.inputs[0] is not x or mean.attributes["axes"] != [len(x.shape) - 1]:
        return None
    return float(added.attributes["value"])


def find_rotations(graph: Graph) -> None:
    """x * cos + (-x2, x1) * sin, of the halves x1 and x2 of each head, is rope with tables of half the width."""
    halves: dict[int, Node | None] = {}
    for node in graph.nodes():
        if not _is_binary(node, "add", 2) or len(node.shape) != 4:
            continue
        found = _match_rotation(node)
        if found is None:
            continue
        x, *tables = found
        cosines, sines = (_first_half(table, halves) for table in tables)
        if cosines is None or sines is None:
            continue
        attributes = {"layout": "bhsd", "pairs": "halves"}
        graph.exchange(node, Node("rope", [x, cosines, sines], attributes, node.dtype, node.shape, node.source))


def _match_rotation(node: Node) -> tuple[Node, Node, Node] | None:
    """x, cosines and sines."""
    for straight, turned in (node.inputs, node.inputs[::-1]):
        if not _is_binary(straight, "mul", 2) or not _is_binary(turned, "mul", 2):
            continue
        for halves, sines in (turned.inputs, turned.inputs[::-1]):
            x = _turned_halves(halves)
            if x is None or x not in straight.inputs:
                continue
            cosines = straight.inputs[1] if straight.inputs[0] is x else straight.inputs[0]
            tables = (1, 1, x.shape[2], x.shape[3]), (x.shape[0], 1, x.shape[2], x.shape[3])
            fit = any(same_shape(cosines.shape, shape) for shape in tables)
            if fit and same_shape(cosines.shape, sines.shape):
                return x, cosines, sines
    return None


def _turned_halves(node: Node) -> Node | None:
    """x of concat(-x[..., half:], x[..., :half])."""
    if node.op != "concat" or len(node.inputs) != 2 or node.attributes["axis"] != len(node.shape) - 1:
        return None
    negative, first = node.inputs
    if negative.op != "unary" or negative.attributes["fn"] != "neg":
        return None
    second, width = negative.inputs[0], node.shape[-1]
    if not isinstance(width, int) or width % 2 or second.op != "slice" or first.op != "slice":
        return None
    x = first.inputs[0]
    whole = [(first, 0, width // 2), (second, width // 2, width)]
    for part, start, end in whole:
        told = part.attributes
        if (told["axis"], told["start"], told["end"], told["step"]) != (len(node.shape) - 1, start, end, 1):
            return None
    return x if second.inputs[0] is x and same_extent(x.shape[-1], width) else None


def _first_half(node: Node, known: dict[int, Node | None]) -> Node | None:
    """A node for the first half of the last axis of one whose halves are equal, made without the second half."""
    if id(node) not in known:
        known[id(node)] = _make_half(node, known)
    return known[id(node)]


def _make_half(node: Node, known: dict[int, Node | None]) -> Node | None:
    import torch

    width = node.shape[-1] if node.shape else 0
    if not isinstance(width, int) or width % 2:
        return None
    shape = (*node.shape[:-1], width // 2)
    if node.op == "concat" and node.attributes["axis"] == len(node.shape) - 1:
        parts = node.inputs
        return parts[0] if len(parts) == 2 and parts[0] is parts[1] else None
    if node.op == CONSTANT and node.tensor is not None:
        first, second = node.tensor.chunk(2, -1)
        if not torch.equal(first, second):
            return None
        return Node(CONSTANT, [], {}, node.dtype, shape, tensor=first.contiguous())
    whole_rows = node.op == "gather" and node.attributes["axis"] == 0 and len(node.inputs[0].shape) == 2
    elementwise = node.op in ("unary", "cast") or (node.op == "binary" and len(node.inputs) == 1)
    keeps_rows = node.op == "reshape" and same_extent(node.inputs[0].shape[-1] if node.inputs[0].shape else 0, width)
    if not (whole_rows or elementwise or keeps_rows):
        return None
    half = _first_half(node.inputs[0], known)
    if half is None:
        return None
    attributes = {**node.attributes, **({"shape": list(shape)} if keeps_rows else {})}
    return Node(node.op, [half, *node.inputs[1:]], attributes, node.dtype, shape, node.source)


def turn_tokens_first(graph: Graph) -> None:
    """rope(permute(x)) is permute(rope(x)), so that heads are turned where a product has written them."""
    for node in graph.nodes():
        if node.op != "rope" or node.attributes["layout"] != "bhsd" or node.inputs[0].op != "permute":
            continue
        moved = node.inputs[0]
        if moved.attributes["axes"] != TOKENS_FIRST:
            continue
        x = moved.inputs[0]
        attributes = {**node.attributes, "layout": "bshd"}
        turned = Node("rope", [x, *node.inputs[1:]], attributes, node.dtype, x.shape, node.source)
        graph.exchange(node, Node("permute", [turned], dict(moved.attributes), node.dtype, node.shape, node.source))


def share_heads(graph: Graph) -> None:
    """Keys and values that are repeated for groups of heads are read where they are, once for each group."""
    for node in graph.nodes():
        if node.op != "attention" or node.attributes["layout"] != "bhsd":
            continue
        k, v = (_unrepeated(each) for each in node.inputs[1:3])
        if k is None or v is None or not same_shape(k.shape, v.shape):
            continue
        node.inputs[1:3] = [k, v]
        node.attributes["kv_heads"] = k.shape[1]


def _unrepeated(node: Node) -> Node | None:
    """x [b, h, s, d] of reshape(expand(reshape(x, [b, h, 1, s, d]), [b, h, n, s, d]), [b, h * n, s, d])."""
    if node.op != "reshape" or node.inputs[0].op != "expand" or node.inputs[0].inputs[0].op != "reshape":
        return None
    many, single = node.inputs[0], node.inputs[0].inputs[0]
    x = single.inputs[0]
    if len(x.shape) != 4 or len(many.shape) != 5 or not isinstance(x.shape[1], int):
        return None
    b, h, s, d = x.shape
    n = many.shape[2]
    fits = same_shape(single.shape, (b, h, 1, s, d)) and same_shape(many.shape, (b, h, n, s, d))
    return x if fits and same_shape(node.shape, (b, h * n, s, d)) else None


def find_causal_masks(graph: Graph) -> None:
    """A mask that is made to hide later keys becomes the attention's own; what hides padding stays, without queries.

    What is left of a mask is bool [batch or 1, 1, 1, keys], so that no array of queries x keys is made. A query that
    sees no key at all (padding on the left) then gets zeros, where models give it the mean of all values.
    """
    for node in graph.nodes():
        if node.op != "attention" or not node.attributes["mask"] or node.attributes["causal"]:
            continue
        q, k = node.inputs[:2]
        axis = 1 if node.attributes["layout"] == "bshd" else 2
        leaves = list(_conditions(node.inputs[3]))
        causal = [each for each in leaves if _hides_later_keys(each, q.shape[axis], k.shape[axis])]
        rest = [each for each in leaves if each not in causal]
        if not causal or not all(_is_of_keys(each, q.shape[0], k.shape[axis]) for each in rest):
            continue
        kept = rest[:1]
        for each in rest[1:]:
            shape = tuple(a if same_extent(b, 1) else b for a, b in zip(kept[0].shape, each.shape, strict=True))
            kept = [Node("logical", [kept[0], each], {"fn": "and"}, "bool", shape, each.source)]
        attributes = {**node.attributes, "causal": True, "mask": bool(kept)}
        inputs = [*node.inputs[:3], *kept]
        graph.exchange(node, Node("attention", inputs, attributes, node.dtype, node.shape, node.source))


def _conditions(mask: Node) -> Iterator[Node]:
    """What must all hold for a key to be seen, as far as the mask is made of such; else the mask itself."""
    if mask.op == "where" and _is_number(mask.inputs[1], 0, 0) and _is_number(mask.inputs[2], -math.inf, -1e30):
        yield from _conditions(mask.inputs[0])
    elif mask.op == "logical" and mask.attributes["fn"] == "and":
        for each in mask.inputs:
            yield from _conditions(each)
    elif mask.op == "expand" and mask.dtype == "bool" and len(mask.inputs[0].shape) == 4:
        yield from _conditions(mask.inputs[0])
    else:
        yield mask


def _is_number(node: Node, low: float, high: float) -> bool:
    """Whether all elements are one number between the two."""
    if node.op == "expand":
        return _is_number(node.inputs[0], low, high)
    if node.op == "fill":
        return bool(low <= float(node.attributes["value"]) <= high)
    one = node.op == CONSTANT and node.tensor is not None and node.tensor.numel() == 1
    return one and low <= float(node.tensor) <= high  # type: ignore[arg-type]


def _hides_later_keys(node: Node, queries: Extent, keys: Extent) -> bool:
    """key <= query for the numbers of all keys, and those of the queries, of which the last is that of the last key."""
    if node.op != "compare" or len(node.inputs) != 2 or node.attributes["fn"] not in ("le", "ge"):
        return False
    key, query = node.inputs if node.attributes["fn"] == "le" else node.inputs[::-1]
    of_keys, of_queries = _range(key, 3), _range(query, 2)
    if of_keys is None or of_queries is None:
        return False
    return (
        same_extent(of_keys[0], 0)
        and all(same_extent(end, keys) for _, end in (of_keys, of_queries))
        and same_extent(of_queries[1] - of_queries[0], queries)
    )


def _range(node: Node, axis: int) -> tuple[Extent, Extent] | None:
    """Start and end of the numbers that lie along this axis of four, the others being of length 1."""
    inner = node.inputs[0] if node.op == "reshape" else node
    if inner.op != "range" or inner.attributes.get("step", 1) != 1 or len(node.shape) != 4:
        return None
    if not all(same_extent(size, 1) for other, size in enumerate(node.shape) if other != axis):
        return None
    return inner.attributes["start"], inner.attributes["end"]


def _is_of_keys(node: Node, batch: Extent, keys: Extent) -> bool:
    return node.dtype == "bool" and any(same_shape(node.shape, (b, 1, 1, keys)) for b in (1, batch))


def apply_gates(graph: Graph) -> None:
    """activate(gate) * x is one op; where both are products of the same rows, these are one product."""
    from ferrule.converters.native_join import join

    uses = graph.uses()
    for node in graph.nodes():
        if not _is_binary(node, "mul", 2) or not same_shape(*(each.shape for each in node.inputs)):
            continue
        for active, factor in (node.inputs, node.inputs[::-1]):
            if active.op != "activate" or len(active.inputs) != 1 or uses.get(id(active)) != 1:
                continue
            pair = [active.inputs[0], factor]
            both = join(pair) if all(uses.get(id(each)) == 1 for each in pair) else None
            attributes = {**active.attributes, **({"gated": True} if both else {})}
            inputs = [both] if both else pair
            graph.exchange(node, Node("activate", inputs, attributes, node.dtype, node.shape, active.source))
            break


def _is_binary(node: Node, fn: str, inputs: int) -> bool:
    plain = node.op == "binary" and node.attributes["fn"] == fn and not node.attributes.get("reversed")
    return plain and len(node.inputs) == inputs
