"""Rotary position embedding against its formula, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def rotate(x: Any, cosines: Any, sines: Any, pairs: str) -> Any:
    """In double, for cosines and sines (tokens, half)."""
    half = cosines.shape[1]
    first, second = (
        (slice(0, half), slice(half, 2 * half)) if pairs == "halves" else (slice(0, 2 * half, 2), slice(1, 2 * half, 2))
    )
    out = x.astype(np.float64)
    c, s = cosines[:, None].astype(np.float64), sines[:, None].astype(np.float64)
    out[..., first] = x[..., first] * c - x[..., second] * s
    out[..., second] = x[..., second] * c + x[..., first] * s
    return out


@by_isa
@pytest.mark.parametrize("pairs", ["halves", "neighbours"])
@pytest.mark.parametrize(("width", "half"), [(8, 4), (64, 32), (66, 16), (34, 17), (4, 0)])
def test_matches_the_formula(isa: str, pairs: Any, width: int, half: int) -> None:
    x = np.random.default_rng(1).normal(size=(6, 3, width)).astype(np.float32)
    cosines, sines = _C.rope_tables(20, half, isa=isa)
    got = _C.rope(x, cosines, sines, first_position=4, pairs=pairs, isa=isa)
    np.testing.assert_allclose(got, rotate(x, cosines[4:10], sines[4:10], pairs), 1e-5, 1e-5)
    places = np.array([19, 0, 3, 3, 7, 1], np.int32)
    want = rotate(x, cosines[places], sines[places], pairs)
    heads_first = np.ascontiguousarray(x.transpose(1, 0, 2)).transpose(1, 0, 2)
    _C.rope(heads_first, cosines, sines, positions=places, pairs=pairs, out=heads_first, isa=isa)
    np.testing.assert_allclose(heads_first, want, 1e-5, 1e-5)


def test_positions_beyond_the_table_are_refused() -> None:
    x = np.zeros((3, 1, 8), np.float32)
    cosines, sines = _C.rope_tables(4, 4)
    for more in (
        {"first_position": 2},
        {"positions": np.array([0, 1, 4], np.int32)},
        {"positions": np.full(3, -1, np.int32)},
    ):
        with pytest.raises(_C.KernelValueError, match="^FER-KER-004"):
            _C.rope(x, cosines, sines, **more)
    with pytest.raises(_C.KernelValueError, match="^FER-KER-002"):
        _C.rope(x[:, :, :6].copy(), cosines, sines)
