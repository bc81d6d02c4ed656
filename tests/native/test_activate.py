"""activate against torch, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from ferrule.runtime import _C

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "relu": torch.relu,
    "relu6": functional.relu6,
    "hard_swish": functional.hardswish,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
}


@pytest.mark.parametrize("isa", _C.isas())
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_matches_torch(kind: str, isa: str) -> None:
    x = np.random.default_rng(1).normal(0, 4, (3, 1001)).astype(np.float32)
    x[0, :4] = 0, -0.0, 30, -30
    want = FUNCTIONS[kind](torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(_C.activate(x, kind, isa=isa), want, 1e-6, 2e-6)  # type: ignore[arg-type]
    factor = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    got = _C.activate(x, kind, factor=factor, out=factor, isa=isa)  # type: ignore[arg-type]
    want = want * np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    np.testing.assert_allclose(got, want, 2e-6, 1e-5)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(_C.KernelValueError, match="^FER-KER-004 kind: found 'mish'; allowed: relu"):
        _C.activate(np.zeros(3, np.float32), "mish")  # type: ignore[arg-type]
    with pytest.raises(_C.KernelTypeError, match="^FER-KER-001 kind"):
        _C.activate(np.zeros(3, np.float32), 0)  # type: ignore[arg-type]
