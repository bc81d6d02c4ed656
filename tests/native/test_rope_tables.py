"""Tables of rotary positions against numpy in double."""

from __future__ import annotations

import numpy as np
import pytest

from ferrule.runtime import _C


@pytest.mark.parametrize("isa", _C.isas())
def test_matches_numpy(isa: str) -> None:
    frequencies = 500000.0 ** (-np.arange(12) / 12)
    angles = np.arange(5, 35)[:, None] * frequencies
    for more in ({"theta": 500000.0}, {"frequencies": frequencies}):
        cosines, sines = _C.rope_tables(30, 12, first_position=5, magnitude=1.5, isa=isa, **more)  # type: ignore[arg-type]
        np.testing.assert_allclose(cosines, 1.5 * np.cos(angles), atol=2e-7)
        np.testing.assert_allclose(sines, 1.5 * np.sin(angles), atol=2e-7)
    cosines, _ = _C.rope_tables(2, 1, positions=np.array([7, 3], np.int32), isa=isa)
    np.testing.assert_allclose(cosines, np.cos([[7.0], [3.0]]), atol=2e-7)


def test_what_does_not_fit_is_refused() -> None:
    for more in ({"theta": float("nan")}, {"magnitude": float("inf")}, {"first_position": -1}):
        with pytest.raises(_C.KernelValueError, match="^FER-KER-004"):
            _C.rope_tables(2, 2, **more)
    with pytest.raises(_C.KernelTypeError, match="^FER-KER-001 frequencies"):
        _C.rope_tables(2, 2, frequencies=np.ones(2, np.float32))
    with pytest.raises(_C.KernelValueError, match="^FER-KER-007"):
        _C.rope_tables(2**31 - 1, 2**31 - 1)
