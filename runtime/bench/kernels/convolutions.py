"""Convolutions of mobile networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels import onnx_models
from ferrule.runtime.bench.kernels.case import OURS, Body, Case, Work

__all__ = ["conv_cases"]

DEPTHWISE = ((112, 32, 3), (28, 240, 5), (14, 672, 5))


def conv_cases() -> list[Case]:
    """Layers of EfficientNet-lite0 and ResNet-50: depthwise, the stem, 3x3 and 1x1."""
    return [
        *(_conv(size, channels, channels, kernel, groups=channels) for size, channels, kernel in DEPTHWISE),
        _conv(224, 3, 32, 3, stride=2),
        _conv(56, 64, 64, 3),
        _conv(14, 480, 112, 1),
    ]


def _conv(size: int, channels: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> Case:
    """One picture, padded by half the kernel; channels last, but for ONNX Runtime."""
    side = -(-size // stride)

    def ours(threads: int) -> Body:
        from ferrule.runtime import _C

        x, pool, padding = _draw(1, size, size, channels), _C.Pool(threads), kernel // 2
        out = np.empty((1, side, side, outputs), np.float32)
        if groups == channels:
            weight = _draw(kernel, kernel, channels)
            return lambda turn: _C.conv_depthwise(x, weight, stride=stride, padding=padding, out=out, pool=pool)
        layer = _C.PackedConv.pack(_draw(outputs, kernel, kernel, channels))
        return lambda turn: layer.run(x, stride=stride, padding=padding, out=out, pool=pool)

    def torch(threads: int) -> Body:
        import torch

        x = torch.randn(1, channels, size, size).to(memory_format=torch.channels_last)
        weight = torch.randn(outputs, channels // groups, kernel, kernel).to(memory_format=torch.channels_last)
        return lambda turn: torch.nn.functional.conv2d(x, weight, None, stride, kernel // 2, groups=groups)

    def onnx(threads: int) -> Body:
        return onnx_models.conv(size, channels, outputs, kernel, stride, groups, threads)

    ops = 2.0 * side * side * outputs * channels // groups * kernel * kernel
    size_bytes = 4.0 * (size * size * channels + side * side * outputs + outputs * channels // groups * kernel**2)
    work = Work(float_ops=ops, bytes=size_bytes, footprint=size_bytes)
    shape = f"{size}x{size}x{channels} {kernel}x{kernel}"
    shape += "" if groups == channels else f" to {outputs}" + (f" stride {stride}" if stride > 1 else "")
    op = "conv_depthwise" if groups == channels else "conv"
    return Case(op, shape, "float32", work, {OURS: ours, "torch": torch, "onnxruntime": onnx})


def _draw(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)
