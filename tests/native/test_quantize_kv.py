"""Coded keys and values: what quantize_kv writes, and attention over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def decode(cache: Any, size: int) -> Any:
    """The floats that a cache stands for, in double."""
    codes, scales, offsets, bits, group = cache
    parts = (
        [codes.astype(np.int64)]
        if bits == 8
        else [(codes.astype(np.int64) >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    )
    flat = np.concatenate(parts, axis=-1)[..., :size]
    spread = [np.repeat(each, group or size, axis=-1)[..., :size] for each in (scales, offsets) if each is not None]
    return flat * spread[0].astype(np.float64) + (spread[1] if len(spread) > 1 else 0)


@by_isa
@pytest.mark.parametrize(("bits", "group"), [(8, 0), (8, 32), (4, 16), (4, 0), (2, 32)])
def test_codes_stand_for_the_values(isa: str, bits: Any, group: int) -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, 5, 64)).astype(np.float32)
    cache = _C.quantize_kv(x, bits=bits, group=group, isa=isa)
    assert cache[3:] == (bits, group) and cache[0].shape[3] == 64 * bits // 8
    steps = np.repeat(cache[1], group or 64, axis=-1)
    assert np.all(np.abs(decode(cache, 64) - x) <= 0.501 * steps + 1e-6)
    keys, values = cache, _C.quantize_kv(x, bits=bits, group=group, isa=isa)
    q = np.random.default_rng(2).normal(size=(2, 6, 1, 64)).astype(np.float32)
    k = decode(keys, 64).astype(np.float32)
    for queries in (q, np.repeat(q, 20, axis=2)):
        got = _C.attention(queries, keys, values, isa=isa)
        np.testing.assert_allclose(got, _C.attention(queries, k, k, isa="scalar"), 1e-4, 1e-4)


def test_symmetric_codes_have_no_offsets() -> None:
    x = np.random.default_rng(1).normal(size=(1, 1, 4, 32)).astype(np.float32)
    cache = _C.quantize_kv(x, symmetric=True)
    assert cache[2] is None
    assert np.all(np.abs(decode(cache, 32) - x) <= 0.501 * cache[1] + 1e-6)
    for more in ({"bits": 4, "symmetric": True}, {"bits": 3}, {"group": 8}, {"clip": 0.0}, {"clip": 1.5}):
        with pytest.raises(_C.KernelValueError, match="^FER-KER-004"):
            _C.quantize_kv(x, **more)  # type: ignore[arg-type]


def test_tokens_are_written_into_a_longer_cache() -> None:
    x = np.random.default_rng(1).normal(size=(1, 2, 3, 32)).astype(np.float32)
    codes, scales, offsets = np.zeros((1, 2, 10, 16), np.uint8), *(np.zeros((1, 2, 10, 1), np.float32) for _ in "so")
    part = slice(4, 7)
    _C.quantize_kv(x, bits=4, out=codes[:, :, part], scales=scales[:, :, part], offsets=offsets[:, :, part])
    want = _C.quantize_kv(x, bits=4)
    np.testing.assert_array_equal(codes[:, :, part], want[0])
    np.testing.assert_array_equal(scales[:, :, part], want[1])
    assert not codes[:, :, :4].any() and not codes[:, :, 7:].any()
