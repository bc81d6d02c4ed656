"""Ops along rows: norms, softmax, activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import OURS, Body, Case, Work

__all__ = ["row_cases"]


def row_cases() -> list[Case]:
    """Sizes of MiniLM, ViT-B and SmolLM2; the data stay where they are, in the second level of cache or the third."""
    return [_layer_norm(rows, width) for rows, width in ((128, 384), (197, 768))]


def _work(rows: int, width: int, reads: int = 1) -> Work:
    size = 4.0 * rows * width * (reads + 1)
    return Work(bytes=size, footprint=size)


def _layer_norm(rows: int, width: int) -> Case:
    def ours(threads: int) -> Body:
        kernels, pool = _open(threads)
        x, weight, bias = _draw(rows, width), _draw(width), _draw(width)
        out = np.empty_like(x)
        return lambda turn: kernels.layer_norm(x, weight, bias, out=out, pool=pool)

    def torch(threads: int) -> Body:
        from torch.nn.functional import layer_norm

        x, weight, bias = _tensors((rows, width), (width,), (width,))
        return lambda turn: layer_norm(x, (width,), weight, bias)

    return Case("layer_norm", f"{rows}x{width}", "float32", _work(rows, width), {OURS: ours, "torch": torch})


def _open(threads: int) -> tuple[Any, Any]:
    from ferrule.runtime import _C

    return _C, _C.Pool(threads)


def _draw(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def _tensors(*shapes: tuple[int, ...]) -> list[Any]:
    import torch

    return [torch.from_numpy(_draw(*shape)) for shape in shapes]
