"""PackedDepthwise against exact sums of codes, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())


def convolve(x: Any, weight: Any, **more: Any) -> Any:
    images = torch.from_numpy(x).double().permute(0, 3, 1, 2)
    kernel = torch.from_numpy(weight).double().permute(2, 0, 1)[:, None]
    return torch.nn.functional.conv2d(images, kernel, groups=x.shape[3], **more).permute(0, 2, 3, 1).numpy()


@by_isa
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("channels", "kernel", "more"),
    [
        (8, (3, 3), {"padding": 1}),
        (19, (3, 3), {"padding": 1, "stride": 2}),
        (33, (5, 3), {"padding": (2, 1)}),
        (6, (1, 4), {}),
    ],
)
def test_matches_exact_sums(isa: str, dtype: Any, channels: int, kernel: tuple[int, int], more: Any) -> None:
    rng = np.random.default_rng(channels)
    limits = np.iinfo(dtype)
    x = rng.integers(limits.min, limits.max + 1, (2, 7, 9, channels), dtype)
    codes = rng.integers(-127, 128, (*kernel, channels), np.int8)
    scales, bias = (rng.uniform(0.01, 0.1, channels).astype(np.float32) for _ in range(2))
    layer = _C.PackedDepthwise(codes, scales, bias)
    zero = int(limits.max) // 3
    want = 0.05 * convolve(x.astype(np.float64) - zero, codes, **more) * scales + bias
    got = layer.run(x, input_scale=0.05, input_zero=zero, isa=isa, **more)
    np.testing.assert_allclose(got, want, 1e-5, 1e-4)
    coded = layer.run(x, input_scale=0.05, input_zero=zero, output_scale=0.5, output_zero=-5, isa=isa, **more)
    assert coded.dtype == np.int8
    np.testing.assert_allclose(coded, np.clip(np.round(want / 0.5) - 5, -128, 127), atol=1)


def test_what_does_not_fit_is_refused() -> None:
    codes, scales = np.ones((3, 3, 8), np.int8), np.ones(8, np.float32)
    wrong: list[tuple[str, tuple[Any, ...]]] = [
        ("FER-KER-001 codes", (codes.astype(np.uint8), scales)),
        ("FER-KER-002 codes", (codes[0], scales)),
        ("FER-KER-002 scales", (codes, scales[:7])),
        ("FER-KER-002 bias", (codes, scales, scales[:7])),
        ("FER-KER-004", (codes, np.full(8, np.nan, np.float32))),
    ]
    for code, arguments in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.PackedDepthwise(*arguments)
    layer = _C.PackedDepthwise(codes, scales)
    x = np.ones((1, 5, 5, 8), np.uint8)
    runs: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-002 input", {"input": x[..., :7].copy()}),
        ("FER-KER-001 input", {"input": x.astype(np.float32)}),
        ("FER-KER-004 input_zero", {"input_zero": -1}),
        ("FER-KER-004 input_scale", {"input_scale": float("inf")}),
    ]
    for code, more in runs:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            layer.run(**{"input": x, "input_scale": 0.1, **more})
