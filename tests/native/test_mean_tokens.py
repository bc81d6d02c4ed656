"""mean_tokens against torch, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def draw(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def draw_mask(batch: int, tokens: int) -> Any:
    return np.random.default_rng(tokens).random((batch, tokens)) < 0.6


def reference(x: Any, mask: Any, normalize: bool) -> Any:
    """In double by torch."""
    kept = torch.from_numpy(np.asarray(mask)).double()[..., None]
    mean = (torch.from_numpy(x).double() * kept).sum(1) / kept.sum(1).clamp(min=1)
    return (torch.nn.functional.normalize(mean, dim=1) if normalize else mean).numpy()


@by_isa
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 7), (2, 33, 384), (5, 17, 100)])
def test_matches_torch(isa: str, normalize: bool, size: tuple[int, int, int]) -> None:
    x, mask = draw(*size), draw_mask(*size[:2])
    every = np.ones(size[:2], bool)
    got = _C.mean_tokens(x, normalize=normalize, isa=isa)
    np.testing.assert_allclose(got, reference(x, every, normalize), 1e-5, 1e-6)
    want = reference(x, mask, normalize)
    np.testing.assert_allclose(_C.mean_tokens(x, mask, normalize=normalize, isa=isa), want, 1e-5, 1e-6)
    weights = mask.astype(np.uint8) * 3  # whatever is not zero counts once
    np.testing.assert_allclose(_C.mean_tokens(x, weights, normalize=normalize, isa=isa), want, 1e-5, 1e-6)


@by_isa
def test_texts_without_tokens_become_zeros(isa: str) -> None:
    x = draw(2, 6, 20)
    mask = np.zeros((2, 6), np.uint8)
    mask[1] = 1
    x[0] = np.nan  # padding is not read into the mean
    for normalize in (False, True):
        got = _C.mean_tokens(x, mask, normalize=normalize, isa=isa)
        np.testing.assert_array_equal(got[0], np.zeros(20))
        np.testing.assert_allclose(got[1:], reference(x[1:], mask[1:], normalize), 1e-5, 1e-6)
    np.testing.assert_array_equal(_C.mean_tokens(draw(2, 0, 5), isa=isa), np.zeros((2, 5)))
    assert _C.mean_tokens(draw(0, 3, 5), isa=isa).shape == (0, 5)
    assert _C.mean_tokens(draw(3, 4, 0), isa=isa).shape == (3, 0)


@by_isa
def test_strides_out_and_threads(isa: str) -> None:
    wide, long = draw(9, 4, 70), draw_mask(4, 12)
    x, mask = wide[:, :, 3:67].transpose(1, 0, 2), long[:, 2:11]  # tokens before texts in memory
    room = np.zeros((4, 80), np.float32)
    want = reference(np.ascontiguousarray(x), mask, True)
    _C.mean_tokens(x, mask, normalize=True, out=room[:, 8:72], isa=isa)
    np.testing.assert_allclose(room[:, 8:72], want, 1e-5, 1e-6)
    assert not room[:, :8].any() and not room[:, 72:].any()
    with _C.Pool(2) as pool:
        tensors = torch.from_numpy(wide)[:, :, 3:67].transpose(0, 1), torch.from_numpy(long)[:, 2:11]
        got = _C.mean_tokens(*tensors, normalize=True, pool=pool, isa=isa)
    np.testing.assert_array_equal(got, room[:, 8:72])


def test_what_does_not_fit_is_refused() -> None:
    x, mask = draw(3, 5, 8), np.ones((3, 5), np.uint8)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-001 input", {"input": x.astype(np.float64)}),
        ("FER-KER-002 input", {"input": x[0]}),
        ("FER-KER-003 input", {"input": x[:, :, ::2]}),
        ("FER-KER-003", {"input": np.broadcast_to(x[:1], (3, 5, 8))}),
        ("FER-KER-001 mask", {"mask": mask.astype(np.int64)}),
        ("FER-KER-002 mask", {"mask": mask[:, :4]}),
        ("FER-KER-003 mask", {"mask": np.broadcast_to(mask[:1], (3, 5))}),
        ("FER-KER-001 normalize", {"normalize": 1}),
        ("FER-KER-002 out", {"out": draw(3, 7)}),
        ("FER-KER-003 out", {"out": x[:, 0]}),
    ]
    for code, more in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.mean_tokens(**{"input": x, "mask": mask, **more})
