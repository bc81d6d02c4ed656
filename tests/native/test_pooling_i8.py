"""pooling_i8 against torch over the codes, on every instruction set."""

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
    ((1, 12, 11, 65), (3, 2), {"stride": (2, 1), "padding": (1, 1)}),
    ((2, 8, 10, 130), 3, {"stride": 2, "padding": 1, "ceil_mode": True}),
    ((1, 7, 7, 33), (7, 7), {}),
]


def draw(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).integers(-128, 128, shape, np.int8)


def average(x: Any, kernel: Any, count_padding: bool, padding_code: int, **more: Any) -> Any:
    """In double by torch: padding, which is zero, stands for `padding_code` where it counts."""
    images = torch.from_numpy(x).double().permute(0, 3, 1, 2) - padding_code
    pooled = torch.nn.functional.avg_pool2d(images, kernel, count_include_pad=count_padding, **more)
    return (pooled + padding_code).permute(0, 2, 3, 1).numpy()


@by_isa
@pytest.mark.parametrize(("size", "kernel", "more"), CASES)
def test_matches_torch(isa: str, size: tuple[int, ...], kernel: Any, more: dict[str, Any]) -> None:
    x = draw(*size)
    images = torch.from_numpy(x).double().permute(0, 3, 1, 2)
    want = torch.nn.functional.max_pool2d(images, kernel, **more).permute(0, 2, 3, 1).numpy()
    got = _C.pooling_i8(x, "max", kernel, **more, isa=isa)
    assert got.dtype == np.int8
    np.testing.assert_array_equal(got, want)
    for count, code in ((False, 0), (False, 11), (True, -7), (True, 0)):
        got = _C.pooling_i8(x, "average", kernel, **more, count_padding=count, padding_code=code, isa=isa)
        want = average(x, kernel, count, code, **more)
        assert np.all(np.abs(got - want) <= 0.5 + 1e-9)
        np.testing.assert_array_equal(
            got, _C.pooling_i8(x, "average", kernel, **more, count_padding=count, padding_code=code, isa="scalar")
        )


@by_isa
def test_the_middle_is_rounded_to_even(isa: str) -> None:
    x = np.arange(-64, 64, dtype=np.int8).reshape(1, 1, 2, 64).repeat(3, axis=3)
    want = np.rint((x[0, 0, 0].astype(np.float64) + x[0, 0, 1] + 1) / 2)
    shifted = x.copy()
    shifted[0, 0, 1] += 1
    np.testing.assert_array_equal(_C.pooling_i8(shifted, "average", (1, 2), isa=isa)[0, 0, 0], want)


@by_isa
def test_windows_without_pixels_strides_and_threads(isa: str) -> None:
    wide = draw(2, 12, 10, 90)
    x, out = wide[..., 7:77], np.zeros((2, 7, 5, 80), np.int8)
    got = _C.pooling_i8(x, "max", 2, padding=(2, 0, 0, 0), out=out[..., 4:74], isa=isa)
    np.testing.assert_array_equal(got[:, 0], np.full((2, 5, 70), -128))
    np.testing.assert_array_equal(got[:, 1:], x.reshape(2, 6, 2, 5, 2, 70).max((2, 4)))
    assert not out[..., :4].any() and not out[..., 74:].any()
    averages = _C.pooling_i8(x, "average", 2, padding=(2, 0, 0, 0), padding_code=9, isa=isa)
    np.testing.assert_array_equal(averages[:, 0], np.full((2, 5, 70), 9))
    with _C.Pool(2) as pool:
        again = _C.pooling_i8(torch.from_numpy(x), "average", 2, padding=(2, 0, 0, 0), padding_code=9, pool=pool)
    np.testing.assert_array_equal(again, averages)


def test_what_does_not_fit_is_refused() -> None:
    x = draw(1, 6, 6, 8)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-001 input", {"input": x.astype(np.uint8)}),
        ("FER-KER-002 input", {"input": x[0]}),
        ("FER-KER-003 input", {"input": x[:, :, :4]}),
        ("FER-KER-004 kind", {"kind": "sum"}),
        ("FER-KER-002 kernel", {"kernel": 7}),
        ("FER-KER-007 kernel", {"kernel": (256, 129), "padding": 200}),
        ("FER-KER-004 dilation", {"dilation": 2, "kind": "average"}),
        ("FER-KER-004 padding_code", {"padding_code": 128}),
        ("FER-KER-001 padding_code", {"padding_code": 1.0}),
        ("FER-KER-001 out", {"out": np.zeros((1, 3, 3, 8), np.uint8)}),
        ("FER-KER-003 out", {"out": x[:, :3, :3]}),
    ]
    for code, more in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.pooling_i8(**{"input": x, "kind": "max", "kernel": 2, **more})
