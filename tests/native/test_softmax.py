"""softmax against torch, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


@by_isa
@pytest.mark.parametrize("width", [1, 7, 16, 197, 1000])
def test_matches_torch(isa: str, width: int) -> None:
    rng = np.random.default_rng(width)
    x, mask = (rng.normal(0, 5, (2, 3, width)).astype(np.float32) for _ in range(2))
    y = torch.from_numpy(x).double() * 0.5
    np.testing.assert_allclose(_C.softmax(x, scale=0.5, isa=isa), y.softmax(-1), 2e-6, 1e-9)
    want = (y + torch.from_numpy(mask).double()).softmax(-1)
    np.testing.assert_allclose(_C.softmax(x, mask=mask, scale=0.5, isa=isa), want, 4e-6, 1e-9)
    want = (y + torch.from_numpy(mask[0, 0]).double()).log_softmax(-1)
    got = _C.softmax(x, mask=mask[0, 0], scale=0.5, logarithm=True, isa=isa)
    np.testing.assert_allclose(got, want, 2e-6, 4e-6)


@by_isa
def test_rows_without_hope_and_nan(isa: str) -> None:
    x = np.zeros((3, 20), np.float32)
    x[0], x[1, 3] = -np.inf, np.nan
    got = _C.softmax(x, isa=isa)
    assert not got[0].any() and np.isnan(got[1]).all() and np.allclose(got[2], 0.05)
    assert np.all(_C.softmax(x, logarithm=True, isa=isa)[0] == -np.inf)


def test_scales_must_be_above_zero() -> None:
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(_C.KernelValueError, match="^FER-KER-004 scale"):
            _C.softmax(np.zeros(3, np.float32), scale=scale)
    with pytest.raises(_C.KernelValueError, match="^FER-KER-002 mask"):
        _C.softmax(np.zeros((2, 3), np.float32), mask=np.zeros(2, np.float32))
