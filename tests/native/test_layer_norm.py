"""layer_norm against torch, on every instruction set of this machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype(np.float32)


def reference(x: Any, weight: Any = None, bias: Any = None, epsilon: float = 1e-5) -> Any:
    """In double by torch."""
    w, b = (None if a is None else torch.from_numpy(a).double() for a in (weight, bias))
    return torch.nn.functional.layer_norm(torch.from_numpy(x).double(), x.shape[-1:], w, b, epsilon).numpy()


@by_isa
@pytest.mark.parametrize("width", [1, 3, 16, 33, 384, 768])
def test_matches_torch(isa: str, width: int) -> None:
    x, weight, bias = draw(1, 5, width), draw(2, width), draw(3, width)
    np.testing.assert_allclose(_C.layer_norm(x, isa=isa), reference(x), 2e-5, 2e-5)
    got = _C.layer_norm(x, weight, bias, epsilon=1e-3, isa=isa)
    np.testing.assert_allclose(got, reference(x, weight, bias, 1e-3), 3e-5, 3e-5)


@by_isa
def test_adds_the_residual_and_keeps_the_sum(isa: str) -> None:
    x, residual = draw(1, 7, 96), draw(2, 7, 96)
    want = x + residual
    total = np.empty_like(x)
    np.testing.assert_allclose(_C.layer_norm(x, residual=residual, sum=total, isa=isa), reference(want), 2e-5, 2e-5)
    np.testing.assert_array_equal(total, want)
    stream = residual.copy()
    _C.layer_norm(x, residual=stream, sum=stream, out=x, isa=isa)
    np.testing.assert_array_equal(stream, want)
    np.testing.assert_allclose(x, reference(want), 2e-5, 2e-5)


def test_sizes_that_do_not_fit_are_refused() -> None:
    x = draw(1, 4, 8)
    wrong: list[dict[str, Any]] = [
        {"weight": draw(1, 7)},
        {"bias": draw(1, 1, 8)},
        {"residual": draw(1, 4, 7)},
        {"sum": draw(1, 3, 8)},
    ]
    for more in wrong:
        with pytest.raises(_C.KernelValueError, match="^FER-KER-002"):
            _C.layer_norm(x, **more)
    for more in ({"sum": x}, {"weight": x[0], "out": x}, {"residual": x, "out": x}):
        with pytest.raises(_C.KernelValueError, match="^FER-KER-003"):
            _C.layer_norm(x, **more) if "out" in more or "sum" in more else None
