"""Our kernels as torch ops: attention over a coded cache, products with palettes, token merging.

`torch.export` keeps each op whole, so a converter can hand it to the same kernel inside a vendor's runtime or a native
program (see docs/custom_ops.md). Run by torch itself, an op calls `ferrule.runtime._C` on the calling thread. There are
no gradients. Bytes that hold codes are uint8 in every op; codes of 8 bits are two's complement in them.

Each op also has an out variant, `ferrule::<name>.out`, which is what ExecuTorch's programs call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

if TYPE_CHECKING:
    from ferrule.runtime._C import PackedLinear

__all__ = [
    "OPS",
    "attention_quantized",
    "digest_weights",
    "lookup_linear",
    "quantize_kv",
    "token_match",
    "token_merge",
    "unpack_indices",
]


@torch.library.custom_op("ferrule::quantize_kv", mutates_args=(), device_types="cpu")
def quantize_kv(x: Tensor, bits: int, group: int, clip: float) -> tuple[Tensor, Tensor, Tensor]:
    """Keys or values as codes with scales and offsets, x ~ scale * code + offset.

    x: float32 [batch, heads, tokens, head size]. bits: 8, 4 or 2. group: channels that share a scale, a multiple of 16,
    or 0 for the whole head. clip: above 0, at most 1: ranges are cut to that share of the greatest values.
    Returns codes, uint8 [batch, heads, tokens, bytes of a row], scales and offsets, float32 [batch, heads, tokens,
    groups]. csrc/include/ferrule/attention.h describes the codes. Raises ValueError FER-KER-….
    """
    from ferrule.runtime import _C

    rows, size = x.shape[:3], x.shape[3]
    codes = torch.empty((*rows, _code_bytes(size, bits)), dtype=torch.uint8)
    scales = torch.empty((*rows, _groups(size, group)))
    offsets = torch.empty_like(scales)
    width: Any = bits  # which _C checks
    _C.quantize_kv(
        _plain(x), bits=width, group=group, clip=clip, out=_as_codes(codes, bits), scales=scales, offsets=offsets
    )
    return codes, scales, offsets


@quantize_kv.register_fake
def _quantize_kv_fake(x: Tensor, bits: int, group: int, clip: float) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, tokens, size = x.shape
    codes = x.new_empty((batch, heads, tokens, _code_bytes(size, bits)), dtype=torch.uint8)
    scales = x.new_empty((batch, heads, tokens, _groups(size, group)))
    return codes, scales, torch.empty_like(scales)


@torch.library.custom_op("ferrule::attention_quantized", mutates_args=(), device_types="cpu")
def attention_quantized(
    query: Tensor,
    key_codes: Tensor,
    key_scales: Tensor,
    key_offsets: Tensor | None,
    value_codes: Tensor,
    value_scales: Tensor,
    value_offsets: Tensor | None,
    key_ends: Tensor | None,
    bits: int,
    group: int,
    scale: float,
    causal: bool,
) -> Tensor:
    """softmax(scale * q . k) . v over a cache that `quantize_kv` wrote; query and result float32 [batch, heads,
    queries, head size].

    Codes, scales and offsets are those of `quantize_kv` with the same bits and group; kv heads divide the heads of the
    query. Offsets may be None (zeros) with 8 bits. key_ends: int32 [batch], keys that count, None for all of them.
    causal: the last query sees all keys, each before it one less, whatever key_ends says. Raises ValueError FER-KER-….
    """
    from ferrule.runtime import _C

    out = torch.empty(query.shape, dtype=torch.float32)
    _C.attention(
        _plain(query),
        _cache(key_codes, key_scales, key_offsets, bits, group),
        _cache(value_codes, value_scales, value_offsets, bits, group),
        scale=scale,
        causal=causal,
        key_ends=None if key_ends is None else _plain(key_ends),
        out=out,
    )
    return out


@attention_quantized.register_fake
def _attention_quantized_fake(
    query: Tensor,
    key_codes: Tensor,
    key_scales: Tensor,
    key_offsets: Tensor | None,
    value_codes: Tensor,
    value_scales: Tensor,
    value_offsets: Tensor | None,
    key_ends: Tensor | None,
    bits: int,
    group: int,
    scale: float,
    causal: bool,
) -> Tensor:
    return query.new_empty(query.shape)


@torch.library.custom_op("ferrule::lookup_linear", mutates_args=(), device_types="cpu")
def lookup_linear(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    table: Tensor,
    bias: Tensor | None,
    bits: int,
    group: int,
    dynamic: bool,
    digest: int,
) -> Tensor:
    """x [..., in] times weights that are indices into palettes, plus bias; float32 [..., out].

    codes: uint8 [out, bytes of a row] from `codec.pack_codes`; bits 4 or 2. scales: float32 [out]. table: float32
    [palettes, 2^bits]. bias: float32 [out]. group: rows that share a palette, 0 for all of them. dynamic: rows of x are
    quantized to 8 bits as they arrive. digest: `digest_weights` of the four tensors, by which a packed layer is found
    again.
    Raises ValueError FER-KER-008 where the digest is another, and FER-KER-….
    """
    layer = _packed(codes, scales, table, bias, bits, group, dynamic, digest, x.shape[-1])
    out = torch.empty((*x.shape[:-1], codes.shape[0]), dtype=torch.float32)
    layer.run(_plain(x), out=out)
    return out


@lookup_linear.register_fake
def _lookup_linear_fake(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    table: Tensor,
    bias: Tensor | None,
    bits: int,
    group: int,
    dynamic: bool,
    digest: int,
) -> Tensor:
    return x.new_empty((*x.shape[:-1], codes.shape[0]))


@torch.library.custom_op("ferrule::token_match", mutates_args=(), device_types="cpu")
def token_match(
    metric: Tensor, sizes: Tensor | None, counts: Tensor | None, count: int, protected_tokens: int
) -> tuple[Tensor, Tensor]:
    """A plan of token merging: for each token the place after merging that it goes into, and how many are left.

    metric: float32 [batch, heads, tokens, width], averaged over heads. sizes: float32 [batch, tokens], tokens that each
    stands for, 0 at padding; None for ones. counts: int32 [batch], merges of each entry; None for `count` in all. The
    first protected_tokens take no part. Returns int32 [batch, tokens] and [batch]. Raises ValueError FER-KER-….
    Source: Bolya et al., Token Merging: Your ViT But Faster, as csrc/include/ferrule/tokens.h states it.
    """
    from ferrule.runtime import _C

    plan, left = _C.token_match(
        _plain(metric),
        count,
        sizes=None if sizes is None else _plain(sizes),
        counts=None if counts is None else _plain(counts),
        protected_tokens=protected_tokens,
    )
    return torch.from_numpy(plan), torch.from_numpy(left)


@token_match.register_fake
def _token_match_fake(
    metric: Tensor, sizes: Tensor | None, counts: Tensor | None, count: int, protected_tokens: int
) -> tuple[Tensor, Tensor]:
    batch, _, tokens, _ = metric.shape
    plan = metric.new_empty((batch, tokens), dtype=torch.int32)
    return plan, metric.new_empty((batch,), dtype=torch.int32)


@torch.library.custom_op("ferrule::token_merge", mutates_args=(), device_types="cpu")
def token_merge(x: Tensor, plan: Tensor, sizes: Tensor | None, left: int) -> tuple[Tensor, Tensor]:
    """Means, weighted by sizes, of the tokens that a plan sends to one place, and the sums of their sizes.

    x: float32 [batch, tokens, width]. plan: int32 [batch, tokens], below left. sizes: float32 [batch, tokens], None for
    ones. Returns float32 [batch, left, width] and [batch, left]. Raises ValueError FER-KER-….
    """
    from ferrule.runtime import _C

    merged = torch.empty((x.shape[0], left, x.shape[2]))
    merged_sizes = torch.empty((x.shape[0], left))
    given = None if sizes is None else _plain(sizes)
    _C.token_merge(_plain(x), _plain(plan), left, sizes=given, out=merged, merged_sizes=merged_sizes)
    return merged, merged_sizes


@token_merge.register_fake
def _token_merge_fake(x: Tensor, plan: Tensor, sizes: Tensor | None, left: int) -> tuple[Tensor, Tensor]:
    return x.new_empty((x.shape[0], left, x.shape[2])), x.new_empty((x.shape[0], left))


def unpack_indices(packed: Tensor, bits: int, depth: int) -> Tensor:
    """What `ferrule.codec.pack_codes` packed, uint8 [rows, depth]."""
    parts = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    return torch.stack(parts, -1).view(packed.shape[0], -1)[:, :depth].contiguous()


def digest_weights(codes: Tensor, scales: Tensor, table: Tensor, bias: Tensor | None) -> int:
    """64 bits, signed, that depend on every byte of the weights of a `lookup_linear`."""
    from ferrule.runtime import _C

    digest = 0
    for part in (codes, scales, table, bias):
        if part is not None:
            digest = (digest * 0x100000001B3 ^ _C.checksum(_plain(part))) % 2**64
    return digest - 2**64 if digest >= 2**63 else digest


# Layers that ran, packed; an entry goes with its codes.
_layers: WeakIdKeyDictionary = WeakIdKeyDictionary()


def _packed(
    codes: Tensor,
    scales: Tensor,
    table: Tensor,
    bias: Tensor | None,
    bits: int,
    group: int,
    dynamic: bool,
    digest: int,
    depth: int,
) -> PackedLinear:
    from ferrule.runtime import _C

    key = (digest, bits, group, dynamic, depth, codes._version)
    known: tuple[object, PackedLinear] | None = _layers.get(codes)
    if known is not None and known[0] == key:
        return known[1]
    if digest != digest_weights(codes, scales, table, bias):
        raise ValueError("FER-KER-008: lookup_linear: the digest is that of other weights")
    layer = _C.PackedLinear.pack(
        unpack_indices(codes, bits, depth).numpy(),
        _plain(scales),
        kind="lookup4" if bits == 4 else "lookup2",
        input="dynamic8" if dynamic else "float32",
        table=_plain(table),
        bias=None if bias is None else _plain(bias),
        group=group,
    )
    _layers[codes] = (key, layer)
    return layer


def _plain(tensor: Tensor) -> Tensor:
    """As the kernels take it: no gradient, contiguous."""
    return tensor.detach().contiguous()


def _cache(codes: Tensor, scales: Tensor, offsets: Tensor | None, bits: int, group: int) -> Any:
    plain = _as_codes(_plain(codes), bits)
    return plain, _plain(scales), None if offsets is None else _plain(offsets), bits, group


def _as_codes(codes: Tensor, bits: int) -> Tensor:
    return codes.view(torch.int8) if bits == 8 else codes


def _code_bytes(head_size: int, bits: int) -> int:
    return (head_size * bits + 7) // 8


def _groups(head_size: int, group: int) -> int:
    return -(-head_size // group) if group else 1


OPS = {
    "attention_quantized": attention_quantized,
    "lookup_linear": lookup_linear,
    "quantize_kv": quantize_kv,
    "token_match": token_match,
    "token_merge": token_merge,
}

_library = torch.library.Library("ferrule", "FRAGMENT")


def _define_out_variant(name: str, op: Callable[..., Tensor | tuple[Tensor, ...]]) -> None:
    """`ferrule::name.out`: the same arguments, then a tensor for each result, which it fills and returns."""
    schema = str(getattr(torch.ops.ferrule, name).default._schema)
    arguments, _, results = schema.partition(") -> ")
    count = results.count("Tensor")
    outs = ["out"] if count == 1 else [f"out{i}" for i in range(count)]
    marks = [f"Tensor({chr(ord('a') + i)}!)" for i in range(count)]
    given = ", ".join(f"{mark} {out}" for mark, out in zip(marks, outs, strict=True))
    returned = marks[0] if count == 1 else f"({', '.join(marks)})"
    taken = arguments.removeprefix(f"ferrule::{name}(")
    _library.define(f"{name}.out({taken}, *, {given}) -> {returned}")

    def fill(*args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, ...]:
        targets = [kwargs.pop(out) for out in outs]
        found = op(*args, **kwargs)
        for target, value in zip(targets, (found,) if isinstance(found, Tensor) else found, strict=True):
            target.resize_(value.shape).copy_(value)
        return targets[0] if count == 1 else tuple(targets)

    _library.impl(f"{name}.out", fill, "CompositeExplicitAutograd")


for _name, _op in OPS.items():
    _define_out_variant(_name, _op)
