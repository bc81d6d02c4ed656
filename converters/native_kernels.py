"""Our kernels as torch ops (`ferrule.runtime.torch_ops`) and the merging of `tome`, as nodes of a native program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ferrule.converters.native_graph import RESULT, Extent, Node, Unsupported

if TYPE_CHECKING:
    from ferrule.converters.native import Lowering

__all__ = ["KERNELS"]


def _results(low: Lowering, fx: Any, op: str, inputs: Sequence[Node], /, **attributes: Any) -> list[Node]:
    """All results of a node, with the dtypes and shapes that torch gave them."""
    specs = [(str(value.dtype).removeprefix("torch."), low.extents(value.shape)) for value in fx.meta["val"]]
    node = low.make(op, list(inputs), *specs[0], results=len(specs), **attributes)
    return [node, *(low.make(RESULT, [node], *spec, index=i) for i, spec in enumerate(specs) if i)]


def _check(dtypes: Mapping[str, str], **given: Node | None) -> None:
    """Raises Unsupported where a tensor is of another dtype than float32, or than `dtypes` says of it."""
    for name, node in given.items():
        wanted = dtypes.get(name, "float32")
        if node is not None and node.dtype != wanted:
            raise Unsupported(f"{name!r} of dtype {node.dtype}: {wanted} is needed")


def _check_coding(bits: Any, group: Any) -> None:
    if bits not in (8, 4, 2) or not isinstance(group, int) or group < 0 or group % 16:
        raise Unsupported(f"codes of {bits} bits in groups of {group}: 8, 4 or 2 in multiples of 16 are needed")


def _quantize_kv(low: Lowering, fx: Any, x: Node, bits: int, group: int, clip: float) -> list[Node]:
    _check({}, x=x)
    _check_coding(bits, group)
    if not 0 < clip <= 1:
        raise Unsupported(f"a clip of {clip}: above 0 and at most 1 is needed")
    return _results(low, fx, "quantize_kv", [x], bits=bits, group=group, clip=clip)


def _attention_quantized(
    low: Lowering, fx: Any, query: Node, key_codes: Node, key_scales: Node, key_offsets: Node | None,
    value_codes: Node, value_scales: Node, value_offsets: Node | None, key_ends: Node | None, bits: int, group: int,
    scale: float, causal: bool,
) -> Node:  # fmt: skip
    dtypes = {"key_codes": "uint8", "value_codes": "uint8", "key_ends": "int32"}
    _check(dtypes, query=query, key_codes=key_codes, key_scales=key_scales, key_offsets=key_offsets)
    _check(dtypes, value_codes=value_codes, value_scales=value_scales, value_offsets=value_offsets, key_ends=key_ends)
    _check_coding(bits, group)
    if bits != 8 and (key_offsets is None or value_offsets is None):
        raise Unsupported(f"codes of {bits} bits without offsets")
    given = [query, key_codes, key_scales, key_offsets, value_codes, value_scales, value_offsets, key_ends]
    optional = {"key_offsets": key_offsets, "value_offsets": value_offsets, "key_ends": key_ends}
    return low.like(
        "attention_quantized", fx, [node for node in given if node is not None], bits=bits, group=group, scale=scale,
        causal=causal, **{name: node is not None for name, node in optional.items()},
    )  # fmt: skip


def _lookup_linear(
    low: Lowering, fx: Any, x: Node, codes: Node, scales: Node, table: Node, bias: Node | None, bits: int, group: int,
    dynamic: bool, digest: int,
) -> Node:  # fmt: skip
    """As a layer of the codec: indices one a byte, which the file packs again."""
    from ferrule.runtime.torch_ops import digest_weights, unpack_indices

    _check({"codes": "uint8"}, x=x, codes=codes, scales=scales, table=table, bias=bias)
    depth = x.shape[-1] if x.shape else None
    if bits not in (4, 2) or not isinstance(group, int) or not isinstance(depth, int):
        raise Unsupported(f"palettes of {bits} bits: 4 or 2 are needed, of rows whose length is known")
    weights = [low.tensor(each) for each in (codes, scales, table, bias)]  # raises Unsupported for computed ones
    rows, palettes = codes.shape[0], codes.shape[0] // group if group > 0 else 1
    shapes = [(rows, -(-depth * bits // 8)), (rows,), (palettes, 2**bits), (rows,)]
    told = [tuple(each.shape) for each in weights if each is not None]
    if told != shapes[: len(told)] or group < 0 or (group and rows % group):
        raise Unsupported(f"weights of shapes {told}: {shapes} are needed")
    if digest_weights(*weights) != digest:
        raise Unsupported("weights of another digest")
    return low.like(
        "linear", fx, [x], kind="lookup", codes=unpack_indices(weights[0], bits, depth), scales=weights[1],
        table=weights[2], bias=weights[3], bits=bits, group=group, input="dynamic8" if dynamic else "float32",
    )  # fmt: skip


def _matching(keys: Node, sizes: Node | None, counts: Node | None, protected: Extent) -> dict[str, Any]:
    """Inputs and attributes of a `token_match` but for `count`."""
    heads = keys.shape[1]
    if not isinstance(heads, int):
        raise Unsupported("a number of heads that depends on lengths")
    attributes = {"heads": heads, "kv_heads": heads, "layout": "bhsd", "protected": protected}
    given = {"sizes": sizes, "counts": counts}
    return attributes | {name: True for name, node in given.items() if node is not None}


def _token_match(
    low: Lowering, fx: Any, metric: Node, sizes: Node | None, counts: Node | None, count: Extent, protected: Extent
) -> list[Node]:
    _check({"counts": "int32"}, metric=metric, sizes=sizes, counts=counts)
    given = [node for node in (metric, sizes, counts) if node is not None]
    return _results(low, fx, "token_match", given, count=count, **_matching(metric, sizes, counts, protected))


def _token_merge(low: Lowering, fx: Any, x: Node, plan: Node, sizes: Node | None, left: Extent) -> list[Node]:
    _check({"plan": "int32"}, x=x, plan=plan, sizes=sizes)
    return _results(low, fx, "token_merge", [x, plan, *([] if sizes is None else [sizes])], left=left)


def _merge_tokens(
    low: Lowering, fx: Any, x: Node, keys: Node, sizes: Any, counts: Any, mean: Node, positions: Node, protected: int,
    left: Extent,
) -> list[Node]:  # fmt: skip
    batch, tokens, width = x.shape
    if counts is None:  # then no row is padded, and sizes do not change who takes part
        told = {**_matching(keys, None, None, protected), "count": tokens - left}
        plan = low.make("token_match", [keys], "int32", (batch, tokens), **told)
    else:
        counts = low.cast(counts, "int32")
        told = _matching(keys, sizes, counts, protected)
        plan = low.make("token_match", [keys, sizes, counts], "int32", (batch, tokens), **told)
    given = [x, plan, *([] if sizes is None else [sizes])]
    merged = low.make("token_merge", given, "float32", (batch, left, width), left=left, results=2)
    new = low.make(RESULT, [merged], "float32", (batch, left), index=1)
    return [merged, new, low.cast(plan, "float32")]


KERNELS: Mapping[str, Callable[..., Any]] = {
    "ferrule.quantize_kv": _quantize_kv,
    "ferrule.attention_quantized": _attention_quantized,
    "ferrule.lookup_linear": _lookup_linear,
    "ferrule.token_match": _token_match,
    "ferrule.token_merge": _token_merge,
    "ferrule.merge_tokens": _merge_tokens,
}
