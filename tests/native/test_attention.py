"""attention against its formula in double, on every instruction set: prefill, decode, padding, coded caches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def reference(q: Any, k: Any, v: Any, causal: bool = False, extra: Any = 0.0) -> Any:
    q, k, v = (each.astype(np.float64) for each in (q, k, v))
    share = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, share, 1), np.repeat(v, share, 1)
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]) + extra
    if causal:
        places = np.arange(k.shape[2]) > np.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2]
        logits = np.where(places, -np.inf, logits)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


@by_isa
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("batch", "heads", "kv_heads", "queries", "keys", "size"),
    [(1, 2, 2, 7, 7, 16), (2, 6, 2, 40, 70, 64), (1, 9, 3, 1, 300, 64), (1, 3, 1, 100, 100, 33)],
)
def test_matches_the_formula(
    isa: str, causal: bool, batch: int, heads: int, kv_heads: int, queries: int, keys: int, size: int
) -> None:
    q = draw(1, batch, heads, queries, size)
    k, v = draw(2, batch, kv_heads, keys, size), draw(3, batch, kv_heads, keys, size)
    want = reference(q, k, v, causal)
    np.testing.assert_allclose(_C.attention(q, k, v, causal=causal, isa=isa), want, 1e-4, 2e-5)
    tokens_first = [np.ascontiguousarray(each.swapaxes(1, 2)).swapaxes(1, 2) for each in (q, k, v)]
    with _C.Pool(2) as pool:
        got = _C.attention(*tokens_first, causal=causal, isa=isa, pool=pool)
    np.testing.assert_allclose(got, want, 1e-4, 2e-5)


@by_isa
def test_biases_sizes_and_padding(isa: str) -> None:
    q, k, v = draw(1, 2, 4, 30, 32), draw(2, 2, 4, 50, 32), draw(3, 2, 4, 50, 32)
    bias = draw(4, 1, 4, 30, 50)
    got = _C.attention(q, k, v, bias=np.broadcast_to(bias, (2, 4, 30, 50)), isa=isa)
    np.testing.assert_allclose(got, reference(q, k, v, extra=bias), 1e-4, 2e-5)
    sizes = np.abs(draw(5, 2, 50)) + 0.5
    got = _C.attention(q, k, v, sizes=sizes, isa=isa)
    np.testing.assert_allclose(got, reference(q, k, v, extra=np.log(sizes)[:, None, None]), 1e-4, 2e-5)
    slopes = np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
    distance = np.arange(50) - np.arange(30)[:, None] - 20
    got = _C.attention(q, k, v, slopes=slopes, causal=True, isa=isa)
    np.testing.assert_allclose(got, reference(q, k, v, True, slopes[:, None, None] * distance), 1e-4, 2e-5)
    begins, ends = np.array([0, 5], np.int32), np.array([41, 50], np.int32)
    got = _C.attention(q, k, v, key_begins=begins, key_ends=ends, isa=isa)
    for entry in range(2):
        seen = slice(begins[entry], ends[entry])
        want = reference(*(each[entry : entry + 1] for each in (q, k[:, :, seen], v[:, :, seen])))
        np.testing.assert_allclose(got[entry : entry + 1], want, 1e-4, 2e-5)


@by_isa
def test_log_sums(isa: str) -> None:
    q, k, v = draw(1, 1, 2, 20, 16), draw(2, 1, 2, 25, 16), draw(3, 1, 2, 25, 16)
    sums = np.empty((1, 2, 20), np.float32)
    _C.attention(q, k, v, log_sums=sums, isa=isa)
    want = np.log(np.exp(q.astype(np.float64) @ k.swapaxes(-1, -2) / 4).sum(-1))
    np.testing.assert_allclose(sums, want, 1e-5, 1e-5)


def test_what_does_not_fit_is_refused() -> None:
    q, k, v = draw(1, 1, 4, 5, 16), draw(2, 1, 2, 7, 16), draw(3, 1, 2, 7, 16)
    cache = _C.quantize_kv(k)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-002", {"queries": q[0]}),
        ("FER-KER-002", {"keys": draw(1, 1, 3, 7, 16)}),
        ("FER-KER-002", {"values": draw(1, 1, 2, 6, 16)}),
        ("FER-KER-002", {"keys": draw(1, 1, 2, 7, 15)}),
        ("FER-KER-002", {"bias": draw(1, 4, 5, 7)}),
        ("FER-KER-004", {"scale": float("nan")}),
        ("FER-KER-004", {"key_ends": np.array([8], np.int32)}),
        ("FER-KER-004", {"key_begins": np.array([-1], np.int32)}),
        ("FER-KER-003", {"out": q}),
        ("FER-KER-002", {"keys": cache[:4]}),
        ("FER-KER-004", {"keys": (*cache[:3], 3, 0)}),
        ("FER-KER-004", {"keys": (cache[0], None, None, 8, 0)}),
    ]
    for code, more in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.attention(**{"queries": q, "keys": k, "values": v, **more})
