"""pooling against torch, in both layouts, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())
CASES: list[tuple[tuple[int, ...], Any, dict[str, Any]]] = [
    ((1, 9, 9, 8), 3, {"stride": 2, "padding": 1}),
    ((2, 10, 7, 19), (2, 3), {}),
    ((1, 12, 11, 33), (3, 2), {"stride": (2, 1), "padding": (1, 1)}),
    ((2, 8, 10, 40), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((1, 7, 7, 70), (7, 7), {}),
    ((1, 1, 30, 6), (1, 4), {"stride": 3, "ceil_mode": True}),
]
"""Images, kernel, and what torch calls by the same names."""


def draw(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def reference(x: Any, kind: str, kernel: Any, count_padding: bool = False, **more: Any) -> Any:
    """In double by torch, channels last."""
    images = torch.from_numpy(x).double().permute(0, 3, 1, 2)
    if kind == "max":
        pooled = torch.nn.functional.max_pool2d(images, kernel, **more)
    else:
        pooled = torch.nn.functional.avg_pool2d(images, kernel, count_include_pad=count_padding, **more)
    return pooled.permute(0, 2, 3, 1).numpy()


@by_isa
@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("size", "kernel", "more"), CASES)
def test_matches_torch(isa: str, layout: Any, size: tuple[int, ...], kernel: Any, more: dict[str, Any]) -> None:
    x = draw(*size)
    to, back = ((0, 3, 1, 2), (0, 2, 3, 1)) if layout == "channels_first" else ((0, 1, 2, 3),) * 2
    given = np.ascontiguousarray(x.transpose(to))
    got = _C.pooling(given, "max", kernel, **more, layout=layout, isa=isa)
    np.testing.assert_array_equal(got.transpose(back), reference(x, "max", kernel, **more))
    for count in (False, True):
        got = _C.pooling(given, "average", kernel, **more, count_padding=count, layout=layout, isa=isa)
        np.testing.assert_allclose(got.transpose(back), reference(x, "average", kernel, count, **more), 1e-5, 1e-6)


@by_isa
@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_dilated_maxima_and_nan(isa: str, layout: Any) -> None:
    x = draw(1, 11, 13, 18)
    x[0, 4, 5, 6] = np.nan
    to, back = ((0, 3, 1, 2), (0, 2, 3, 1)) if layout == "channels_first" else ((0, 1, 2, 3),) * 2
    more: dict[str, Any] = {"stride": (1, 2), "padding": 1, "dilation": (2, 3)}
    got = _C.pooling(np.ascontiguousarray(x.transpose(to)), "max", 3, **more, layout=layout, isa=isa)
    want = reference(x, "max", 3, **more)
    assert np.isnan(want).any()
    np.testing.assert_array_equal(got.transpose(back), want)


@by_isa
def test_windows_without_pixels_and_sides_of_padding(isa: str) -> None:
    x = draw(1, 4, 5, 9)
    lowest = _C.pooling(x, "max", 2, padding=(2, 0, 0, 0), stride=2, isa=isa)
    np.testing.assert_array_equal(lowest[:, 0], np.full((1, 2, 9), -np.inf))
    np.testing.assert_array_equal(lowest[:, 1:], reference(x, "max", 2))
    zeros = _C.pooling(x, "average", 2, padding=(2, 0, 0, 0), stride=2, isa=isa)
    np.testing.assert_array_equal(zeros[:, 0], np.zeros((1, 2, 9)))
    padded = np.pad(x, ((0, 0), (0, 1), (1, 0), (0, 0)))
    counted = _C.pooling(x, "average", 2, padding=(0, 1, 1, 0), count_padding=True, stride=1, isa=isa)
    np.testing.assert_allclose(counted, reference(padded, "average", 2, stride=1), 1e-5, 1e-6)


@by_isa
def test_strided_pixels_out_and_threads(isa: str) -> None:
    wide = draw(2, 16, 12, 50)
    x, room = wide[..., 5:37], np.zeros((2, 8, 6, 40), np.float32)
    want = reference(x, "max", 2)
    assert _C.pooling(x, "max", 2, out=room[..., 3:35], isa=isa) is not None
    np.testing.assert_array_equal(room[..., 3:35], want)
    assert not room[..., :3].any() and not room[..., 35:].any()
    with _C.Pool(2) as pool:
        np.testing.assert_array_equal(_C.pooling(torch.from_numpy(x), "max", 2, pool=pool, isa=isa), want)


def test_nothing_in_and_nothing_out() -> None:
    assert _C.pooling(draw(0, 4, 4, 8), "max", 2).shape == (0, 2, 2, 8)
    assert _C.pooling(draw(1, 4, 4, 0), "average", 2).shape == (1, 2, 2, 0)
    assert _C.pooling(draw(1, 0, 4, 4), "max", 2, layout="channels_first").shape == (1, 0, 2, 2)
    np.testing.assert_array_equal(_C.pooling(draw(1, 0, 0, 3), "average", 2, padding=1), np.zeros((1, 1, 1, 3)))


def test_what_does_not_fit_is_refused() -> None:
    x = draw(1, 6, 6, 8)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-001 input", {"input": x.astype(np.float64)}),
        ("FER-KER-002 input", {"input": x[0]}),
        ("FER-KER-003 input", {"input": x[:, :, :4]}),
        ("FER-KER-003 input", {"input": x.transpose(0, 3, 1, 2)}),
        ("FER-KER-003 input", {"input": x[:, :, :4], "layout": "channels_first"}),
        ("FER-KER-004 kind", {"kind": "median"}),
        ("FER-KER-001 kind", {"kind": 0}),
        ("FER-KER-004 layout", {"layout": "nchw"}),
        ("FER-KER-002 kernel", {"kernel": 7}),
        ("FER-KER-002 kernel", {"kernel": (1, 2, 3)}),
        ("FER-KER-004 kernel", {"kernel": 0}),
        ("FER-KER-004 stride", {"stride": 0}),
        ("FER-KER-004 padding", {"padding": -1}),
        ("FER-KER-004 dilation", {"dilation": 2, "kind": "average"}),
        ("FER-KER-001 ceil_mode", {"ceil_mode": 1}),
        ("FER-KER-001 count_padding", {"count_padding": 1}),
        ("FER-KER-002 out", {"out": draw(1, 3, 2, 8)}),
        ("FER-KER-003 out", {"out": x[:, :3, :3]}),
        ("FER-KER-007", {"padding": 2**31 - 1, "stride": 1, "kernel": 1}),
    ]
    for code, more in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.pooling(**{"input": x, "kind": "max", "kernel": 2, **more})
