"""Convolutions of mobile networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import OURS, Body, Case, Work

__all__ = ["conv_cases"]


def conv_cases() -> list[Case]:
    """Layers of EfficientNet-lite0 and ResNet-50 sizes."""
    return [_depthwise(size, channels, kernel) for size, channels, kernel in ((112, 32, 3), (28, 240, 5), (14, 672, 5))]


def _depthwise(size: int, channels: int, kernel: int) -> Case:
    pixels = size * size * channels

    def ours(threads: int) -> Body:
        from ferrule.runtime import _C

        x, weight = _draw(1, size, size, channels), _draw(kernel, kernel, channels)
        out, pool = np.empty_like(x), _C.Pool(threads)
        return lambda turn: _C.conv_depthwise(x, weight, padding=kernel // 2, out=out, pool=pool)

    def torch(threads: int) -> Body:
        import torch

        x = torch.randn(1, channels, size, size).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, 1, kernel, kernel)
        return lambda turn: torch.nn.functional.conv2d(x, weight, padding=kernel // 2, groups=channels)

    work = Work(float_ops=2.0 * pixels * kernel * kernel, bytes=8.0 * pixels, footprint=8.0 * pixels)
    shape = f"{size}x{size}x{channels} {kernel}x{kernel}"
    return Case("conv_depthwise", shape, "float32", work, {OURS: ours, "torch": torch})


def _draw(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)
