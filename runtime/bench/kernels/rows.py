"""Ops along rows: norms, softmax, activations, rotary embedding. Inputs stay where they are; nothing is rotated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import OURS, Body, Case, Work

__all__ = ["row_cases"]

MINILM, VIT, VIT_HIDDEN, SMOLLM = (128, 384), (197, 768), (197, 3072), (128, 576)


def row_cases() -> list[Case]:
    """Sizes of MiniLM, ViT-B and SmolLM2."""
    return [
        *(_layer_norm(*shape) for shape in (MINILM, VIT)),
        _rms_norm(*SMOLLM),
        *(_softmax(*shape) for shape in ((12 * 128, 128), (12 * 197, 197))),
        *(_activate(kind, *VIT_HIDDEN) for kind in ("gelu", "gelu_tanh", "silu")),
        _rational(*VIT_HIDDEN),
        _rope(128, 9, 64),
    ]


def _work(rows: int, width: int) -> Work:
    size = 8.0 * rows * width
    return Work(bytes=size, footprint=size)


def _layer_norm(rows: int, width: int) -> Case:
    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        x, weight, bias = draw(rows, width), draw(width), draw(width)
        out = np.empty_like(x)
        return lambda turn: kernels.layer_norm(x, weight, bias, out=out, pool=pool)

    def torch(threads: int) -> Body:
        from torch.nn.functional import layer_norm

        x, weight, bias = tensors((rows, width), (width,), (width,))
        return lambda turn: layer_norm(x, (width,), weight, bias)

    def onnx(threads: int) -> Body:
        from ferrule.runtime.bench.kernels.onnx_models import layer_norm

        return layer_norm(rows, width, threads)

    ways = {OURS: ours, "torch": torch, "onnxruntime": onnx}
    return Case("layer_norm", f"{rows}x{width}", "float32", _work(rows, width), ways)


def _rms_norm(rows: int, width: int) -> Case:
    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        x, weight = draw(rows, width), draw(width)
        out = np.empty_like(x)
        return lambda turn: kernels.rms_norm(x, weight, out=out, pool=pool)

    def torch(threads: int) -> Body:
        from torch.nn.functional import rms_norm

        x, weight = tensors((rows, width), (width,))
        return lambda turn: rms_norm(x, (width,), weight, 1e-5)

    return Case("rms_norm", f"{rows}x{width}", "float32", _work(rows, width), {OURS: ours, "torch": torch})


def _softmax(rows: int, width: int) -> Case:
    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        x = draw(rows, width)
        out = np.empty_like(x)
        return lambda turn: kernels.softmax(x, out=out, pool=pool)

    def torch(threads: int) -> Body:
        (x,) = tensors((rows, width))
        return lambda turn: x.softmax(-1)

    return Case("softmax", f"{rows}x{width}", "float32", _work(rows, width), {OURS: ours, "torch": torch})


def _activate(kind: str, rows: int, width: int) -> Case:
    def ours(threads: int) -> Body:
        return _ours_activate(kind, rows, width, threads)

    def torch(threads: int) -> Body:
        return _torch_activate(kind, rows, width)

    return Case("activate", f"{rows}x{width} {kind}", "float32", _work(rows, width), {OURS: ours, "torch": torch})


def _ours_activate(kind: str, rows: int, width: int, threads: int) -> Body:
    kernels, pool = open_kernels(threads)
    x = draw(rows, width)
    out = np.empty_like(x)
    return lambda turn: kernels.activate(x, kind, out=out, pool=pool)


def _torch_activate(kind: str, rows: int, width: int) -> Body:
    from torch.nn import functional

    (x,) = tensors((rows, width))
    functions: dict[str, Callable[[Any], Any]] = {
        "gelu": functional.gelu,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "silu": functional.silu,
    }
    function = functions[kind]
    return lambda turn: function(x)


def _rational(rows: int, width: int, groups: int = 8) -> Case:
    """Beside GELU, ours and torch's: a rational activation should cost about as much."""

    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        x, above, below = draw(rows, width), draw(groups, 6), draw(groups, 4)
        out = np.empty_like(x)
        return lambda turn: kernels.rational(x, above, below, out=out, pool=pool)

    def torch(threads: int) -> Body:
        x, above, below = tensors((rows, groups, width // groups), (groups, 6, 1), (groups, 4, 1))

        def body(turn: int) -> Any:
            numerator, denominator, size = above[:, 5], below[:, 3].abs(), x.abs()
            for power in range(4, -1, -1):
                numerator = numerator * x + above[:, power]
            for power in range(2, -1, -1):
                denominator = denominator * size + below[:, power].abs()
            return numerator / (1 + denominator * size)

        return body

    ways = {
        OURS: ours,
        "torch": torch,
        "torch gelu": lambda threads: _torch_activate("gelu", rows, width),
        "ferrule gelu": lambda threads: _ours_activate("gelu", rows, width, threads),
    }
    notes = {"torch gelu": "another activation, as a yardstick", "ferrule gelu": "another activation, as a yardstick"}
    return Case("rational", f"{rows}x{width} groups {groups}", "float32", _work(rows, width), ways, notes)


def _rope(tokens: int, heads: int, width: int) -> Case:
    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        x = draw(tokens, heads, width)
        cosines, sines = kernels.rope_tables(tokens, width // 2)
        out = np.empty_like(x)
        return lambda turn: kernels.rope(x, cosines, sines, out=out, pool=pool)

    def torch(threads: int) -> Body:
        import torch

        x, angles = tensors((tokens, heads, width), (tokens, 1, width // 2))
        cosines, sines = (torch.cat([f(angles)] * 2, -1) for f in (torch.cos, torch.sin))

        def body(turn: int) -> Any:
            first, second = x.chunk(2, -1)
            return x * cosines + torch.cat((-second, first), -1) * sines

        return body

    work = _work(tokens, heads * width)
    return Case("rope", f"{tokens}x{heads}x{width}", "float32", work, {OURS: ours, "torch": torch})


def open_kernels(threads: int) -> tuple[Any, Any]:
    """The native module, and a pool of its threads."""
    from ferrule.runtime import _C

    return _C, _C.Pool(threads)


def draw(*shape: int) -> Any:
    """Normal float32 values, the same for each shape of a rank."""
    return np.random.default_rng(len(shape)).standard_normal(shape, np.float32)


def tensors(*shapes: tuple[int, ...]) -> list[Any]:
    """The same as torch tensors."""
    import torch

    return [torch.from_numpy(draw(*shape)) for shape in shapes]
