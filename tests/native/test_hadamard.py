"""hadamard against its matrix, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


@by_isa
@pytest.mark.parametrize("width", [1, 2, 16, 64, 512])
def test_matches_the_matrix(isa: str, width: int) -> None:
    x = np.random.default_rng(1).normal(size=(3, width)).astype(np.float32)
    want = x.astype(np.float64) @ scipy.linalg.hadamard(width)
    np.testing.assert_allclose(_C.hadamard(x, scale=1.0, isa=isa), want, 1e-4, 1e-4)
    np.testing.assert_allclose(_C.hadamard(x, isa=isa), want / np.sqrt(width), 1e-5, 1e-5)


@by_isa
@pytest.mark.parametrize("width", [12, 20 * 8, 28, 36 * 2, 60 * 4, 4096])
def test_the_transpose_undoes_it(isa: str, width: int) -> None:
    x = np.random.default_rng(1).normal(size=(3, width)).astype(np.float32)
    y = _C.hadamard(x, isa=isa)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1), 1e-5)
    np.testing.assert_allclose(_C.hadamard(y, transposed=True, out=y, isa=isa), x, 1e-4, 1e-5)


def test_other_widths_are_refused() -> None:
    for width in (3, 7, 14, 100):
        with pytest.raises(_C.KernelValueError, match="^FER-KER-002 input"):
            _C.hadamard(np.zeros((2, width), np.float32))
