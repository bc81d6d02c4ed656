"""selective_scan against its recurrence in double, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def draw(batch: int, length: int, channels: int, states: int, groups: int) -> dict[str, Any]:
    rng = np.random.default_rng(channels)

    def normal(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    return {
        "input": normal(batch, length, channels),
        "delta": normal(batch, length, channels) * np.float32(0.3),
        "a": -np.abs(normal(channels, states)),
        "b": normal(batch, length, groups, states),
        "c": normal(batch, length, groups, states),
        "delta_bias": normal(channels),
        "skip": normal(channels),
        "gate": normal(batch, length, channels),
        "initial_state": normal(batch, channels, states),
    }


def reference(given: dict[str, Any]) -> tuple[Any, Any]:
    x = {name: value.astype(np.float64) for name, value in given.items()}
    batch, length, channels = x["input"].shape
    share = channels // x["b"].shape[2]
    state, out = x["initial_state"].copy(), np.empty((batch, length, channels))
    for t in range(length):
        d = np.log1p(np.exp(x["delta"][:, t] + x["delta_bias"]))
        b, c = (np.repeat(x[name][:, t], share, axis=1) for name in "bc")
        state = np.exp(d[..., None] * x["a"]) * state + (d * x["input"][:, t])[..., None] * b
        y = (state * c).sum(-1) + x["skip"] * x["input"][:, t]
        gate = x["gate"][:, t]
        out[:, t] = y * gate / (1 + np.exp(-gate))
    return out, state


@by_isa
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 5, 24, 16, 1), (1, 70, 40, 7, 2), (2, 9, 33, 4, 3)])
def test_matches_the_recurrence(isa: str, sizes: tuple[int, int, int, int, int]) -> None:
    given = draw(*sizes)
    want, state = reference(given)
    last = np.empty_like(given["initial_state"])
    got = _C.selective_scan(**given, softplus=True, final_state=last, isa=isa)
    np.testing.assert_allclose(got, want, 1e-4, 1e-4)
    np.testing.assert_allclose(last, state, 1e-4, 1e-4)


@by_isa
def test_takes_channels_first_and_writes_in_place(isa: str) -> None:
    given = draw(2, 12, 24, 8, 1)
    want, _ = reference(given)
    for name in ("input", "delta", "gate"):
        given[name] = np.ascontiguousarray(given[name].transpose(0, 2, 1)).transpose(0, 2, 1)
    for name in "bc":
        given[name] = given[name][:, :, 0]
    got = _C.selective_scan(**given, softplus=True, out=given["input"], isa=isa)
    assert got is given["input"]
    np.testing.assert_allclose(got, want, 1e-4, 1e-4)
