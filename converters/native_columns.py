"""Passes that let attention and token merging read queries, keys and values where a product left them.

x ── linear ── reshape ── permute ── slice ── scale ── attention ── permute ── reshape ── y
x ── linear ── attention (which scales) ── y
"""

from __future__ import annotations

from ferrule.converters.native_graph import Graph, Node, same_extent, same_shape

__all__ = [
    "TOKENS_FIRST",
    "fold_query_scales",
    "join_columns",
    "lay_out_merging",
    "read_joined",
    "rows_of_pictures",
    "slice_before_permutes",
]

TOKENS_FIRST = [0, 2, 1, 3]
"""Between [batch, heads, tokens, channels] and [batch, tokens, heads, channels]."""


def slice_before_permutes(graph: Graph) -> None:
    """A slice of permuted axes is cut first; axes of length 1 that a reshape then drops are dropped before as well.

    before   permute ── slice ── reshape
    after    slice ── reshape ── permute
    """
    for node in graph.nodes():
        if node.op == "slice" and node.inputs[0].op == "permute":
            inner = node.inputs[0]
            axes = inner.attributes["axes"]
            shape = tuple(node.shape[axes.index(axis)] for axis in range(len(axes)))
            cut = {**node.attributes, "axis": axes[node.attributes["axis"]]}
            piece = Node("slice", list(inner.inputs), cut, node.dtype, shape, node.source)
            graph.exchange(node, Node("permute", [piece], {"axes": axes}, node.dtype, node.shape, node.source))
    for node in graph.nodes():
        inner = node.inputs[0] if node.op == "reshape" else node
        if node.op != "reshape" or inner.op != "permute":
            continue
        kept = _kept_axes(inner, node)
        if kept is None:
            continue
        stay = sorted(kept)
        source = inner.inputs[0]
        shape = tuple(source.shape[axis] for axis in stay)
        flat = Node("reshape", [source], {"shape": list(shape)}, node.dtype, shape, node.source)
        order = [stay.index(axis) for axis in kept]
        graph.exchange(node, Node("permute", [flat], {"axes": order}, node.dtype, node.shape, node.source))


def _kept_axes(permute: Node, reshape: Node) -> list[int] | None:
    """Axes of what is permuted that are left, in their new order, where the reshape only drops axes of length 1."""
    kept: list[int] = []
    wanted = list(reshape.shape)
    cut = permute.inputs[0].attributes["axis"] if permute.inputs[0].op == "slice" else None
    for axis, size in zip(permute.attributes["axes"], permute.shape, strict=True):
        if axis == cut and same_extent(size, 1):
            continue  # this one, where another, of the batch, has length 1 as well
        if len(kept) < len(wanted) and same_extent(size, wanted[len(kept)]):
            kept.append(axis)
        elif not same_extent(size, 1):
            return None
    return kept if len(kept) == len(wanted) < len(permute.shape) else None


def rows_of_pictures(graph: Graph) -> None:
    """Pixels with channels last are rows as they lie: [batch, height, width, channels] are [batch, pixels, channels].

    before   permute (channels first) ── reshape (pixels in one axis)
    after    reshape (pixels in one axis) ── permute
    """
    for node in graph.nodes():
        inner = node.inputs[0] if node.op == "reshape" else node
        if node.op != "reshape" or inner.op != "permute" or inner.attributes["axes"] != [0, 3, 1, 2]:
            continue
        batch, height, width, channels = inner.inputs[0].shape
        if same_shape(node.shape, (batch, channels, height * width)):
            shape = (batch, height * width, channels)
            rows = Node("reshape", list(inner.inputs), {"shape": list(shape)}, node.dtype, shape, node.source)
            graph.exchange(node, Node("permute", [rows], {"axes": [0, 2, 1]}, node.dtype, node.shape, node.source))


def fold_query_scales(graph: Graph) -> None:
    """Queries and keys that are multiplied by a number become attention's scale."""
    for node in graph.nodes():
        if node.op != "attention":
            continue
        for index in (0, 1):
            plain, factor = _unscaled(node.inputs[index])
            node.inputs[index] = plain
            node.attributes["scale"] *= factor


def _unscaled(node: Node) -> tuple[Node, float]:
    """The node without multiplications by a number, which views may follow; and the number."""
    value = node.attributes.get("value")
    if node.op == "binary" and node.attributes["fn"] == "mul" and len(node.inputs) == 1 and isinstance(value, float):
        plain, factor = _unscaled(node.inputs[0])
        return plain, value * factor
    if node.op in ("permute", "reshape"):
        plain, factor = _unscaled(node.inputs[0])
        if plain is not node.inputs[0]:
            return Node(node.op, [plain], dict(node.attributes), node.dtype, node.shape, node.source), factor
    return node, 1.0


def lay_out_merging(graph: Graph) -> None:
    """Keys that were moved to be compared are read where they lie."""
    for node in graph.nodes():
        keys = node.inputs[0] if node.op == "token_match" else node
        if node.op == "token_match" and keys.op == "permute" and keys.attributes["axes"] == TOKENS_FIRST:
            node.inputs = [keys.inputs[0], *node.inputs[1:]]
            node.attributes["layout"] = "bshd"


def join_columns(graph: Graph) -> None:
    """Queries, keys and values that are columns of one product, in this order, are read there."""
    for node in graph.nodes():
        if node.op != "attention" or node.attributes["layout"] != "bshd":
            continue
        columns = [_columns(each) for each in node.inputs[:3]]
        if any(each is None for each in columns):
            continue
        (whole, first, q), (_, second, k), (_, third, v) = (each for each in columns if each is not None)
        in_order = (first, second, third, whole.shape[-1]) == (0, q, q + k, q + k + v)
        if in_order and all(each is not None and each[0] is whole for each in columns):
            read_joined(graph, node, whole)


def _columns(node: Node) -> tuple[Node, int, int] | None:
    """Rows of which a node holds some of the columns, [batch, tokens, heads, channels]; the first, and how many."""
    shape = node.shape
    while node.op == "reshape":
        node = node.inputs[0]
    if node.op != "slice" or node.attributes["step"] != 1:
        return None
    whole, axis = node.inputs[0], node.attributes["axis"]
    inner = 1
    for size in whole.shape[axis + 1 :]:
        inner *= size
    while whole.op == "reshape":
        whole = whole.inputs[0]
    start, end = node.attributes["start"], node.attributes["end"]
    static = all(isinstance(each, int) for each in (start, end, inner, whole.shape[-1]))
    if not static or len(whole.shape) != 3 or not same_shape(shape[:2], whole.shape[:2]):
        return None
    # The axes from the one that is cut on, and any of length 1 before it, are what became of the last one.
    before = node.inputs[0].shape[2:axis]
    parts = node.inputs[0].shape[axis] * inner
    if not same_shape(node.inputs[0].shape[:2], whole.shape[:2]) or axis < 2:
        return None
    if parts != whole.shape[-1] or any(size != 1 for size in before):
        return None
    return whole, start * inner, (end - start) * inner


def read_joined(graph: Graph, node: Node, whole: Node) -> None:
    """Let an attention, and the merging of its keys, read queries, keys and values from the rows of `whole`."""
    heads = {key: node.attributes[key] for key in ("heads", "kv_heads")}
    for reader in graph.nodes():
        if reader.op == "token_match" and reader.inputs[0] is node.inputs[1]:
            reader.inputs = [whole, *reader.inputs[1:]]
            reader.attributes |= {**heads, "layout": "qkv"}
    rows = (*node.shape[:2], node.shape[-1] * node.shape[-2])
    told = {**node.attributes, "layout": "qkv"}
    joined = Node("attention", [whole, *node.inputs[3:]], told, "float32", rows, node.source)
    graph.exchange(node, Node("reshape", [joined], {"shape": list(node.shape)}, "float32", node.shape, node.source))
