"""rms_norm against torch, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(1.0, 3.0, shape).astype(np.float32)


def reference(x: Any, weight: Any = None, epsilon: float = 1e-5) -> Any:
    w = None if weight is None else torch.from_numpy(weight).double()
    return torch.nn.functional.rms_norm(torch.from_numpy(x).double(), x.shape[-1:], w, epsilon).numpy()


@by_isa
@pytest.mark.parametrize("width", [1, 5, 16, 67, 576])
def test_matches_torch(isa: str, width: int) -> None:
    x, weight = draw(1, 4, width), draw(2, width)
    np.testing.assert_allclose(_C.rms_norm(x, isa=isa), reference(x), 2e-6, 2e-6)
    np.testing.assert_allclose(_C.rms_norm(x, weight, epsilon=0.1, isa=isa), reference(x, weight, 0.1), 4e-6, 4e-6)


@by_isa
def test_adds_the_residual_and_keeps_the_sum(isa: str) -> None:
    x, stream = draw(1, 7, 96), draw(2, 7, 96)
    want = x + stream
    got = _C.rms_norm(x, residual=stream, sum=stream, isa=isa)
    np.testing.assert_array_equal(stream, want)
    np.testing.assert_allclose(got, reference(want), 2e-6, 2e-6)
