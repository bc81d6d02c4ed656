"""quantize_rows against its formula, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def draw(*shape: int) -> Any:
    return np.random.default_rng(1).normal(1.0, 3.0, shape).astype(np.float32)


@by_isa
@pytest.mark.parametrize("signed", [False, True])
def test_codes_stand_for_the_rows(isa: str, signed: bool) -> None:
    for shape in ((3, 1), (5, 33), (2, 4, 100)):
        x = draw(*shape)
        codes, scales, zeros = _C.quantize_rows(x, signed=signed, isa=isa)
        assert codes.dtype == (np.int8 if signed else np.uint8) and codes.shape == shape
        assert scales.shape == zeros.shape == shape[:-1]
        low, high = np.minimum(x.min(-1), 0), np.maximum(x.max(-1), 0)
        np.testing.assert_allclose(scales, (high - low) / 255, 1e-5)
        back = (codes.astype(np.float64) - zeros[..., None]) * scales[..., None]
        assert np.all(np.abs(back - x) <= 0.51 * scales[..., None] + 0.5 * scales[..., None])
        assert np.mean(np.abs(back - x) <= 0.501 * scales[..., None]) > 0.9  # only the ends may be clamped


@by_isa
def test_one_range_for_all(isa: str) -> None:
    x = draw(4, 50)
    codes, scales, zeros = _C.quantize_rows(x, signed=True, scale=0.05, zero=-7, isa=isa)
    np.testing.assert_array_equal(codes, np.clip(np.round(x / np.float32(0.05)) - 7, -128, 127))
    assert np.all(scales == np.float32(0.05)) and np.all(zeros == -7)


@by_isa
def test_nan_marks_its_row_alone(isa: str) -> None:
    x = draw(3, 20)
    x[1, 3] = np.nan
    _, scales, _ = _C.quantize_rows(x, isa=isa)
    assert np.isnan(scales[1]) and np.isfinite(scales[[0, 2]]).all()


def test_outputs_are_taken() -> None:
    x = draw(3, 20)
    outputs = {"out": np.empty((3, 20), np.uint8), "scales": np.empty(3, np.float32), "zeros": np.empty(3, np.int32)}
    got = _C.quantize_rows(x, **outputs)
    assert all(mine is theirs for mine, theirs in zip(outputs.values(), got, strict=True))
    for wrong in ({"scale": 0.0}, {"scale": float("inf")}, {"zero": 200}, {"out": np.empty((3, 20), np.int8)}):
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError)):
            _C.quantize_rows(x, **wrong)
