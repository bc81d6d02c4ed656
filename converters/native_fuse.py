"""Passes over the graph of a native program: neighbours that one kernel computes together become one node.

Each pass is a function of the graph that changes it in place and keeps what it computes; PASSES says why they run in
this order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ferrule.converters.native_columns import (
    TOKENS_FIRST,
    fold_query_scales,
    join_columns,
    lay_out_merging,
    rows_of_pictures,
    slice_before_permutes,
)
from ferrule.converters.native_fuse_llm import (
    apply_gates,
    find_causal_masks,
    find_rms_norms,
    find_rotations,
    share_heads,
    turn_tokens_first,
)
from ferrule.converters.native_graph import CONSTANT, Graph, Node, same_extent, same_shape
from ferrule.converters.native_join import join_products, join_projections
from ferrule.converters.native_simplify import drop_identities, share_equals

__all__ = ["PASSES", "fuse"]


def fuse(graph: Graph) -> None:
    """Run all passes in their order."""
    for each in PASSES:
        each(graph)


def simplify_views(graph: Graph) -> None:
    """Reshapes of reshapes, permutations of permutations, and those that change nothing."""
    for node in graph.nodes():
        if node.op == "reshape" and node.inputs[0].op == "reshape":
            node.inputs = list(node.inputs[0].inputs)
        if node.op == "permute" and node.inputs[0].op == "permute":
            inner = node.inputs[0]
            node.attributes["axes"] = [inner.attributes["axes"][axis] for axis in node.attributes["axes"]]
            node.inputs = list(inner.inputs)
        is_same = node.op == "reshape" and same_shape(node.shape, node.inputs[0].shape)
        if is_same or (node.op == "permute" and node.attributes["axes"] == list(range(len(node.shape)))):
            graph.exchange(node, node.inputs[0])


def sink_permutes(graph: Graph) -> None:
    """Permutations pass through what works on each element, so that those around it meet and cancel."""
    for node in graph.nodes():
        turned = [each for each in node.inputs if each.op == "permute"]
        if node.op not in ("unary", "binary", "activate", "cast", "compare", "channel_affine") or not turned:
            continue
        axes = turned[0].attributes["axes"]
        if not all(_follows(each, axes, node) for each in node.inputs):
            continue
        inputs = [each.inputs[0] if each.op == "permute" else each for each in node.inputs]
        shape = [node.shape[axes.index(axis)] for axis in range(len(axes))]
        moved = Node(node.op, inputs, dict(node.attributes), node.dtype, tuple(shape), node.source)
        if node.op == "channel_affine":
            moved.attributes["axis"] = axes[node.attributes.get("axis", 1)]
        graph.exchange(node, Node("permute", [moved], {"axes": axes}, node.dtype, node.shape, node.source))
    for node in graph.nodes():
        if node.op == "reduce" and node.inputs[0].op == "permute":
            _reduce_first(graph, node, node.inputs[0])
    _permutes_of_points(graph)


def _reduce_first(graph: Graph, node: Node, inner: Node) -> None:
    """A reduction of permuted axes as a permutation of what is left."""
    axes, reduced = inner.attributes["axes"], node.attributes["axes"]
    left = [axes[axis] for axis in range(len(axes)) if node.attributes["keep"] or axis not in reduced]
    order = [sorted(left).index(axis) for axis in left]
    shape = [node.shape[order.index(axis)] for axis in range(len(order))]
    attributes = {**node.attributes, "axes": sorted(axes[axis] for axis in reduced)}
    moved = Node("reduce", list(inner.inputs), attributes, node.dtype, tuple(shape), node.source)
    graph.exchange(node, Node("permute", [moved], {"axes": order}, node.dtype, node.shape, node.source))


def _follows(each: Node, axes: Sequence[int], node: Node) -> bool:
    if each.op == "permute":
        return bool(each.attributes["axes"] == axes) and len(each.shape) == len(node.shape)
    return each.op == CONSTANT and each.tensor is not None and each.tensor.numel() == 1


def _permutes_of_points(graph: Graph) -> None:
    """A permutation that moves axes of length 1 alone is a reshape."""
    for node in graph.nodes():
        if node.op == "permute":
            source = node.inputs[0].shape
            long = [axis for axis in node.attributes["axes"] if not same_extent(source[axis], 1)]
            if long == sorted(long):
                node.op, node.attributes = "reshape", {"shape": list(node.shape)}


def fold_channel_affine(graph: Graph) -> None:
    """A batch norm goes into the weights of the convolution before it; elsewhere it is a product and a sum."""
    uses = graph.uses()
    for node in graph.nodes():
        if node.op != "channel_affine":
            continue
        (x,), axis = node.inputs, node.attributes.get("axis", 1)
        scale, shift = node.attributes["scale"], node.attributes["shift"]
        plain = x.op == "conv" and "activation" not in x.attributes
        if plain and uses.get(id(x)) == 1 and axis == len(node.shape) - 1:
            bias = x.attributes.get("bias")
            if x.attributes["kind"] == "float32":
                x.attributes["weight"] = x.attributes["weight"] * scale[:, None, None, None]
            else:
                x.attributes["scales"] = x.attributes["scales"] * scale
            x.attributes["bias"] = shift if bias is None else bias * scale + shift
            graph.exchange(node, x)
            continue
        shape = [1] * len(node.shape)
        shape[axis] = scale.numel()
        factors = [Node(CONSTANT, shape=tuple(shape), tensor=each.reshape(shape)) for each in (scale, shift)]
        scaled = Node("binary", [x, factors[0]], {"fn": "mul"}, node.dtype, node.shape, node.source)
        graph.exchange(node, Node("binary", [scaled, factors[1]], {"fn": "add"}, node.dtype, node.shape, node.source))


def find_attention(graph: Graph) -> None:
    """matmul(softmax(matmul(q, k^T) * scale + mask), v), which models write out, is attention."""
    uses = graph.uses()
    for node in graph.nodes():
        found = _match_attention(node, uses)
        if found is None:
            continue
        q, k, v, scale, mask = found
        attributes = {
            "heads": q.shape[1],
            "kv_heads": k.shape[1],
            "scale": scale,
            "causal": False,
            "layout": "bhsd",
            "mask": mask is not None,
        }
        inputs = [q, k, v, *([] if mask is None else [mask])]
        graph.exchange(node, Node("attention", inputs, attributes, node.dtype, node.shape, node.source))


def _match_attention(node: Node, uses: dict[int, int]) -> tuple[Node, Node, Node, float, Node | None] | None:
    if node.op != "matmul" or len(node.shape) != 4 or node.attributes.get("transpose_b"):
        return None
    weights, v = node.inputs
    if weights.op != "softmax" or uses.get(id(weights)) != 1:
        return None
    logits, mask, scale = weights.inputs[0], None, 1.0
    if _is(logits, "add") and len(logits.inputs) == 2 and uses.get(id(logits)) == 1:
        logits, mask = logits.inputs
    while _is(logits, "mul", "div") and len(logits.inputs) == 1 and uses.get(id(logits)) == 1:
        value = logits.attributes["value"]
        scale = scale * value if logits.attributes["fn"] == "mul" else scale / value
        logits = logits.inputs[0]
    if logits.op != "matmul" or logits.attributes.get("transpose_b") or uses.get(id(logits)) != 1:
        return None
    q, turned = logits.inputs
    axes = turned.attributes["axes"] if turned.op == "permute" else []
    if len(axes) != 4:
        return None
    k = _turn_back(turned)
    static = all(isinstance(each.shape[1], int) and isinstance(each.shape[3], int) for each in (q, k, v))
    if len(q.shape) != 4 or not static or not same_shape(k.shape, v.shape) or q.shape[1] % k.shape[1]:
        return None
    if mask is not None and (len(mask.shape) != 4 or mask.dtype not in ("float32", "bool")):
        return None
    return q, k, v, scale, mask


def _turn_back(turned: Node) -> Node:
    """Keys whose last two axes a permutation, perhaps of several at once, has exchanged."""
    axes = turned.attributes["axes"]
    axes = [*axes[:2], axes[3], axes[2]]
    shape = (*turned.shape[:2], turned.shape[3], turned.shape[2])
    if axes == [0, 1, 2, 3]:
        return turned.inputs[0]
    return Node("permute", list(turned.inputs), {"axes": axes}, turned.dtype, shape, turned.source)


def _is(node: Node, *functions: str) -> bool:
    return node.op == "binary" and node.attributes["fn"] in functions and not node.attributes.get("reversed")


def lay_out_attention(graph: Graph) -> None:
    """Heads that were cut from rows and moved are read where they lie, and written where they go."""
    uses = graph.uses()
    for node in graph.nodes():
        if node.op != "permute" or node.attributes["axes"] != TOKENS_FIRST:
            continue
        attention = node.inputs[0]
        if attention.op != "attention" or attention.attributes["layout"] != "bhsd" or uses.get(id(attention)) != 1:
            continue
        if not all(each.op == "permute" and each.attributes["axes"] == TOKENS_FIRST for each in attention.inputs[:3]):
            continue
        inputs = [each.inputs[0] for each in attention.inputs[:3]] + attention.inputs[3:]
        attributes = {**attention.attributes, "layout": "bshd"}
        graph.exchange(node, Node("attention", inputs, attributes, node.dtype, node.shape, attention.source))


def join_activations(graph: Graph) -> None:
    """An activation right after a product is done while its results are in registers."""
    uses = graph.uses()
    for node in graph.nodes():
        if node.op != "activate" or len(node.inputs) != 1 or node.attributes.get("gated"):
            continue
        (x,) = node.inputs
        if x.op not in ("linear", "conv") or uses.get(id(x)) != 1 or len(x.inputs) != 1:
            continue
        if x.attributes.get("activation") is None:
            x.attributes["activation"] = node.attributes["kind"]
            graph.exchange(node, x)


def join_residuals(graph: Graph) -> None:
    """A sum right after a product likewise."""
    uses = graph.uses()
    for node in graph.nodes():
        if not _is(node, "add") or len(node.inputs) != 2 or not same_shape(*(each.shape for each in node.inputs)):
            continue
        for x, other in (node.inputs, node.inputs[::-1]):
            if x.op in ("linear", "conv") and uses.get(id(x)) == 1 and len(x.inputs) == 1:
                joined = Node(x.op, [*x.inputs, other], {**x.attributes, "residual": True}, x.dtype, x.shape, x.source)
                graph.exchange(node, joined)
                break


def keep_codes(graph: Graph) -> None:
    """What only convolutions of one static range read is rounded to it where it is written, and stays int8 between.

    before   conv ── float32 ── conv (rounds to its range) ── y
    after    conv (rounds to the next one's range) ── int8 ── conv ── y
    """
    readers: dict[int, list[Node | None]] = {}
    for node in graph.nodes():
        for index, each in enumerate(node.inputs):
            readers.setdefault(id(each), []).append(node if index == 0 and _takes_codes(node) else None)
    for root in graph.roots():
        readers.setdefault(id(root), []).append(None)
    for node in graph.nodes():
        ranges = {None if r is None else _given_range(r) for r in readers[id(node)]}
        if _takes_codes(node) and len(ranges) == 1 and (found := ranges.pop()) is not None:
            node.attributes["output_scale"], node.attributes["output_zero"] = found
            node.dtype = "int8"


def _takes_codes(node: Node) -> bool:
    return node.op == "conv" and node.attributes.get("input") == "static8"


def _given_range(conv: Node) -> tuple[float, int]:
    return conv.attributes["input_scale"], conv.attributes["input_zero"]


PASSES: tuple[Callable[[Graph], Any], ...] = (
    drop_identities,
    share_equals,
    simplify_views,
    sink_permutes,  # before batch norms are folded: those lie behind the permutation that ends a convolution
    simplify_views,
    fold_channel_affine,  # before activations: a convolution with an activation takes no scale any more
    find_rms_norms,
    find_rotations,  # before tokens come first: the pattern is that of heads
    turn_tokens_first,
    find_attention,
    share_heads,
    find_causal_masks,  # after attention is found: masks are those of attention
    fold_query_scales,
    slice_before_permutes,
    rows_of_pictures,
    simplify_views,
    lay_out_attention,
    lay_out_merging,
    join_columns,  # after attention reads rows, of which queries, keys and values are columns
    join_projections,  # after attention reads rows: the one product has the rows of all three
    simplify_views,
    apply_gates,  # before activations: a gate is activated together with what it multiplies
    join_products,  # what neither attention nor a gate has joined
    join_activations,  # before residuals: the activation comes first in the kernels
    join_residuals,
    share_equals,
    simplify_views,
    keep_codes,  # last: activations and residuals come before the rounding
)
