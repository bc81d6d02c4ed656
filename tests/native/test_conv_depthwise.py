"""conv_depthwise against torch, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def draw(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def reference(x: Any, weight: Any, bias: Any, **more: Any) -> Any:
    images = torch.from_numpy(x).double().permute(0, 3, 1, 2)
    kernel = torch.from_numpy(weight).double().permute(2, 0, 1)[:, None]
    b = torch.from_numpy(bias).double()
    return torch.nn.functional.conv2d(images, kernel, b, groups=x.shape[3], **more).permute(0, 2, 3, 1).numpy()


@by_isa
@pytest.mark.parametrize(
    ("size", "kernel", "more"),
    [
        ((1, 9, 9, 8), (3, 3), {"padding": 1}),
        ((2, 10, 7, 19), (3, 3), {"padding": (1, 1), "stride": 2}),
        ((1, 12, 11, 33), (5, 3), {"padding": (2, 1), "dilation": (1, 2), "stride": (2, 1)}),
        ((1, 1, 30, 6), (1, 4), {}),
    ],
)
def test_matches_torch(isa: str, size: tuple[int, ...], kernel: tuple[int, int], more: dict[str, Any]) -> None:
    x, weight, bias = draw(1, *size), draw(2, *kernel, size[3]), draw(3, size[3])
    got = _C.conv_depthwise(x, weight, bias, **more, isa=isa)
    np.testing.assert_allclose(got, reference(x, weight, bias, **more), 1e-5, 1e-5)


@by_isa
def test_epilogue_and_sides_of_padding(isa: str) -> None:
    x, weight, bias = draw(1, 1, 6, 6, 8), draw(2, 3, 3, 8), draw(3, 8)
    want = reference(np.pad(x, ((0, 0), (0, 1), (2, 0), (0, 0))), weight, bias)
    residual = draw(4, *want.shape)
    got = _C.conv_depthwise(
        x, weight, bias, padding=(0, 1, 2, 0), activation="relu6", residual=residual, out=residual, isa=isa
    )
    assert got is residual
    np.testing.assert_allclose(got, np.clip(want, 0, 6) + draw(4, *want.shape), 1e-5, 1e-5)


def test_what_does_not_fit_is_refused() -> None:
    x, weight = draw(1, 1, 6, 6, 8), draw(2, 3, 3, 8)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-002", {"input": x[0]}),
        ("FER-KER-002", {"weight": weight[:, :, :7].copy()}),
        ("FER-KER-003", {"weight": weight[:, :, :7]}),
        ("FER-KER-002", {"weight": draw(2, 9, 3, 8)}),
        ("FER-KER-004", {"stride": 0}),
        ("FER-KER-004", {"padding": -1}),
        ("FER-KER-002", {"dilation": (1, 1, 1)}),
        ("FER-KER-001", {"dilation": "1"}),
        ("FER-KER-003", {"input": x[:, :, :4]}),
    ]
    for code, more in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.conv_depthwise(**{"input": x, "weight": weight, **more})
