"""Token matching, merging and its undoing against their definitions, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def match(metric: Any, count: int, protected: int) -> Any:
    """The plan of one batch entry (heads, tokens, width) without padding."""
    mean = metric.astype(np.float64).mean(0)
    unit = mean / np.sqrt((mean**2).sum(-1, keepdims=True) + 1e-5 * mean.shape[1])
    tokens = np.arange(len(unit))
    even = [t for t in tokens[::2] if t >= protected]
    odd = [t for t in tokens[1::2] if t >= protected]
    products = unit[even] @ unit[odd].T
    best = products.max(1)
    merged = sorted(range(len(even)), key=lambda i: -best[i])[:count]
    into = {even[i]: odd[int(products[i].argmax())] for i in merged}
    kept = [t for t in tokens if t not in into]
    places = {t: place for place, t in enumerate(kept)}
    return np.array([places[into.get(t, t)] for t in tokens])


@by_isa
@pytest.mark.parametrize(("tokens", "count", "protected"), [(9, 2, 0), (50, 8, 1), (197, 16, 1)])
def test_plans(isa: str, tokens: int, count: int, protected: int) -> None:
    metric = draw(tokens, 2, 3, tokens, 16)
    plan, left = _C.token_match(metric, count, protected_tokens=protected, isa=isa)
    assert list(left) == [tokens - count] * 2
    for entry in range(2):
        np.testing.assert_array_equal(plan[entry], match(metric[entry], count, protected))


@by_isa
def test_merging_is_a_mean_by_sizes(isa: str) -> None:
    x, sizes = draw(1, 2, 21, 40), np.abs(draw(2, 2, 21)) + 1
    plan, left = _C.token_match(draw(3, 2, 1, 21, 8), 5, isa=isa)
    merged, totals = _C.token_merge(x, plan, int(left[0]), sizes=sizes, isa=isa)
    for entry in range(2):
        onto = np.zeros((16, 21))
        onto[plan[entry], np.arange(21)] = sizes[entry]
        np.testing.assert_allclose(totals[entry], onto.sum(1), 1e-6)
        want = onto @ x[entry] / onto.sum(1, keepdims=True)
        np.testing.assert_allclose(merged[entry], want, 1e-5, 1e-5)
    back = _C.token_unmerge(merged, plan, isa=isa)
    np.testing.assert_array_equal(back, np.take_along_axis(merged, plan[..., None].astype(np.int64), 1))


def test_plans_beyond_their_places_are_refused() -> None:
    x, plan = draw(1, 1, 4, 8), np.array([[0, 1, 2, 3]], np.int32)
    for wrong in (plan + 1, plan - 1):
        with pytest.raises(_C.KernelValueError, match="^FER-KER-004"):
            _C.token_merge(x, wrong, 4)
        with pytest.raises(_C.KernelValueError, match="^FER-KER-004"):
            _C.token_unmerge(x, wrong)
    with pytest.raises(_C.KernelValueError, match="^FER-KER-002"):
        _C.token_merge(x, plan[:, :3], 4)
    with pytest.raises(_C.KernelTypeError, match="^FER-KER-001"):
        _C.token_merge(x, plan.astype(np.int64), 4)
