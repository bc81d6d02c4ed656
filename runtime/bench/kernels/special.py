"""What few libraries have: Hadamard transforms, token matching and merging, the selective scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import OURS, Body, Case, Work
from ferrule.runtime.bench.kernels.rows import draw, open_kernels, tensors

__all__ = ["special_cases"]


def special_cases() -> list[Case]:
    """Sizes of rotations in LLaMA-like models, of ViT-B and of Mamba-130M."""
    return [
        *(_hadamard(rows, 4096) for rows in (128, 1)),
        *(_tokens(197, 768, metric, 16) for metric in (64, 768)),
        _scan(1024, 768, 16),
    ]


def _hadamard(rows: int, width: int) -> Case:
    side = int(width**0.5)

    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        x = draw(rows, width)
        out = np.empty_like(x)
        return lambda turn: kernels.hadamard(x, out=out, pool=pool)

    def torch(threads: int) -> Body:
        import torch

        matrix = torch.ones(1, 1)
        while matrix.shape[0] < side:
            matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)), 0)
        matrix = matrix / side**0.5
        (x,) = tensors((rows, side, side))
        return lambda turn: matrix @ x @ matrix

    size = 8.0 * rows * width
    work = Work(float_ops=rows * width * np.log2(width), bytes=size, footprint=size)
    notes = {"torch": "two products with matrices of the square root's size"}
    return Case("hadamard", f"{rows}x{width}", "float32", work, {OURS: ours, "torch": torch}, notes)


def _tokens(tokens: int, width: int, metric_width: int, count: int) -> Case:
    """Match on the keys' mean over heads, then merge the tokens themselves."""

    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        metric, x = draw(1, 1, tokens, metric_width), draw(1, tokens, width)
        sizes = np.ones((1, tokens), np.float32)
        out = np.empty((1, tokens - count, width), np.float32)
        merged = np.empty((1, tokens - count), np.float32)

        def body(turn: int) -> Any:
            plan, _ = kernels.token_match(metric, count, sizes=sizes, protected_tokens=1, pool=pool)
            return kernels.token_merge(x, plan, tokens - count, sizes=sizes, out=out, merged_sizes=merged, pool=pool)

        return body

    def torch(threads: int) -> Body:
        metric, x = tensors((1, tokens, metric_width), (1, tokens, width))
        return lambda turn: _merge_in_torch(metric, x, count)

    products = 2.0 * (tokens // 2) * (tokens - tokens // 2) * metric_width
    work = Work(float_ops=products, bytes=4.0 * tokens * (2 * width + metric_width), footprint=4.0 * tokens * 2 * width)
    shape = f"{tokens}x{width} metric {metric_width} merges {count}"
    return Case("tokens", shape, "float32", work, {OURS: ours, "torch": torch})


def _merge_in_torch(metric: Any, x: Any, count: int) -> Any:
    """Bipartite soft matching as the paper states it, in a few tensor operations."""
    metric = metric / metric.norm(dim=-1, keepdim=True)
    scores = metric[:, ::2] @ metric[:, 1::2].transpose(-1, -2)
    scores[:, 0] = float("-inf")
    best, partner = scores.max(-1)
    order = best.argsort(-1, descending=True)[..., None]
    kept, merged = order[:, count:].sort(1).values, order[:, :count]
    partner = partner[..., None].gather(1, merged)
    width = x.shape[-1]
    sources, targets = x[:, ::2], x[:, 1::2].clone()
    moved = sources.gather(1, merged.expand(-1, -1, width))
    targets.scatter_reduce_(1, partner.expand(-1, -1, width), moved, "mean")
    return sources.gather(1, kept.expand(-1, -1, width)), targets


def _scan(length: int, channels: int, states: int) -> Case:
    def ours(threads: int) -> Body:
        kernels, pool = open_kernels(threads)
        u, delta, a, b, c = _scan_inputs(length, channels, states)
        out = np.empty_like(u)
        return lambda turn: kernels.selective_scan(u, delta, a, b, c, out=out, pool=pool)

    def torch(threads: int) -> Body:
        import torch

        u, delta, a, b, c = (torch.from_numpy(each) for each in _scan_inputs(length, channels, states))

        def body(turn: int) -> Any:
            state = torch.zeros(channels, states)
            out = torch.empty(length, channels)
            for step in range(length):
                d = delta[0, step, :, None]
                state = torch.exp(d * a) * state + d * b[0, step] * u[0, step, :, None]
                out[step] = state @ c[0, step]
            return out

        return body

    size = 4.0 * length * (3 * channels + 2 * states)
    work = Work(float_ops=8.0 * length * channels * states, bytes=size, footprint=size)
    notes = {"torch": "a loop over the steps, each vectorized over channels and states"}
    shape = f"{length}x{channels}x{states}"
    return Case("selective_scan", shape, "float32", work, {OURS: ours, "torch": torch}, notes)


def _scan_inputs(length: int, channels: int, states: int) -> tuple[Any, ...]:
    delta = np.abs(draw(1, length, channels)) * np.float32(0.1)
    return draw(1, length, channels), delta, -np.abs(draw(channels, states)), *(draw(1, length, states),) * 2
