"""Attention: prefill, bound by arithmetic, and decode, bound by reading keys and values."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import OURS, Body, Build, Case, Work
from ferrule.runtime.bench.kernels.rows import draw, open_kernels, tensors

__all__ = ["attention_cases"]

ROTATED = 64 << 20
"""Bytes of keys and values that decode goes through: those of other layers lie between two uses of a cache."""


def attention_cases() -> list[Case]:
    """BERT-like prefill of 12 heads of 64; decode of SmolLM2 (9 heads over 3), also with coded keys and values."""
    return [
        *(_prefill(tokens, 12, 64) for tokens in (128, 512, 2048)),
        *(_decode(tokens, 9, 3, 64, bits) for tokens in (512, 2048, 8192) for bits in (32, 8, 4, 2)),
    ]


def _prefill(tokens: int, heads: int, size: int) -> Case:
    shape = (1, heads, tokens, size)

    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        q, k, v = draw(*shape), draw(*shape), draw(*shape)
        out = np.empty_like(q)
        return lambda turn: kernels.attention(q, k, v, out=out, pool=pool)

    def torch(threads: int) -> Body:
        from torch.nn.functional import scaled_dot_product_attention

        q, k, v = tensors(shape, shape, shape)
        return lambda turn: scaled_dot_product_attention(q, k, v)

    def openvino(threads: int) -> Body:
        from ferrule.runtime.bench.kernels.openvino_models import attention

        return attention(shape, threads)

    work = Work(float_ops=4.0 * heads * tokens * tokens * size, bytes=16.0 * heads * tokens * size)
    ways: dict[str, Build] = {OURS: ours, "torch": torch, "openvino": openvino}
    return Case("attention", f"prefill {tokens}x{heads}x{size}", "float32", work, ways)


def _decode(tokens: int, heads: int, kv_heads: int, size: int, bits: int) -> Case:
    """One query. torch's peers hold float32; the queries that share keys are folded into rows, torch's fastest way."""
    cache_bytes = 2.0 * kv_heads * tokens * (size * bits / 8 + (8 if bits < 32 else 0))
    copies = max(2, round(ROTATED / cache_bytes)) if bits == 32 else max(2, round(ROTATED / 4 / cache_bytes))
    copies = min(copies, 64)

    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        caches: list[Any] = [[draw(1, kv_heads, tokens, size) for _ in range(2)] for _ in range(copies)]
        if bits < 32:
            caches = [[kernels.quantize_kv(each, bits=bits) for each in pair] for pair in caches]
        q = draw(1, heads, 1, size)
        out = np.empty_like(q)

        def body(turn: int) -> Any:
            k, v = caches[turn % copies]
            return kernels.attention(q, k, v, out=out, pool=pool)

        return body

    def torch_sdpa(threads: int) -> Body:
        from torch.nn.functional import scaled_dot_product_attention

        (q,) = tensors((1, kv_heads, heads // kv_heads, size))
        caches = _torch_caches(kv_heads, tokens, size, copies)
        return lambda turn: scaled_dot_product_attention(q, *caches[turn % copies])

    def torch_unfused(threads: int) -> Body:
        (q,) = tensors((1, kv_heads, heads // kv_heads, size))
        caches = _torch_caches(kv_heads, tokens, size, copies)

        def body(turn: int) -> Any:
            k, v = caches[turn % copies]
            return ((q @ k.transpose(-1, -2)) * size**-0.5).softmax(-1) @ v

        return body

    work = Work(float_ops=4.0 * heads * tokens * size, bytes=cache_bytes, footprint=cache_bytes * copies)
    ways: dict[str, Build] = {OURS: ours, "torch sdpa": torch_sdpa, "torch unfused": torch_unfused}
    notes = {} if bits == 32 else dict.fromkeys(("torch sdpa", "torch unfused"), "float32 keys and values")
    dtype = "float32" if bits == 32 else f"int{bits} kv"
    return Case("attention", f"decode {tokens}x{heads}/{kv_heads}x{size}", dtype, work, ways, notes)


def _torch_caches(kv_heads: int, tokens: int, size: int, copies: int) -> list[Any]:
    shape = (1, kv_heads, tokens, size)
    return [tensors(shape, shape) for _ in range(copies)]
