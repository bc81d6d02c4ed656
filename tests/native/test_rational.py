"""rational against its formula in double, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C


@pytest.mark.parametrize("isa", _C.isas())
@pytest.mark.parametrize("form", ["terms", "sum"])
@pytest.mark.parametrize(("width", "groups"), [(8, 1), (24, 3), (96, 8), (3072, 8)])
def test_matches_the_formula(isa: str, form: Any, width: int, groups: int) -> None:
    rng = np.random.default_rng(width)
    x = rng.normal(size=(5, width)).astype(np.float32)
    above, below = rng.normal(size=(groups, 6)).astype(np.float32), rng.normal(size=(groups, 4)).astype(np.float32)
    blocks = x.astype(np.float64).reshape(5, groups, -1)
    powers = blocks[..., None] ** np.arange(6)
    numerator = np.einsum("rgip,gp->rgi", powers, above)
    terms = powers[..., 1:5] * below[:, None]
    denominator = 1 + (np.abs(terms).sum(-1) if form == "terms" else np.abs(terms.sum(-1)))
    got = _C.rational(x, above, below, form=form, isa=isa)
    np.testing.assert_allclose(got, (numerator / denominator).reshape(5, width), 1e-4, 1e-5)


def test_what_does_not_fit_is_refused() -> None:
    x, above, below = (np.zeros(shape, np.float32) for shape in ((2, 24), (3, 6), (3, 4)))
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-002", {"numerator": above[:, :5].copy()}),
        ("FER-KER-002", {"denominator": below[:2]}),
        ("FER-KER-002", {"numerator": np.zeros((5, 6), np.float32), "denominator": np.zeros((5, 4), np.float32)}),
        ("FER-KER-004 form", {"form": "product"}),
    ]
    for code, more in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.rational(**{"input": x, "numerator": above, "denominator": below, **more})
