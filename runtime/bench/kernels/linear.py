"""Products of rows with coded weights: from one row, bound by reading the weights, to many, bound by arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels import ggml, onnx_models, openvino_models
from ferrule.runtime.bench.kernels.case import OURS, Body, Build, Case, Work

__all__ = ["linear_cases"]

SHAPES = ((128, 768, 3072), (128, 2048, 2048), (64, 2048, 2048), (512, 2048, 2048), (128, 384, 1536))
THIN_SHAPES = ((1, 2048, 2048), (1, 2048, 8192), (1, 576, 1536))
MOST_CACHED = 4 << 20
"""Bytes of int8 weights up to this are rotated within the third level of cache, larger ones beyond it."""
WITHIN, BEYOND = 32 << 20, 384 << 20
MOST_COPIES = 40
GROUPS = {"affine4": 32, "affine4 g128": 128}
"""Weights that share a scale, along the depth; llama.cpp knows 32 alone."""
BITS = {"float32": 32.0, "affine8": 8.0, "lookup4": 4.0, "lookup2": 2.0} | {
    kind: 4 + 16 / group for kind, group in GROUPS.items()
}


def linear_cases() -> list[Case]:
    """(rows, depth, columns) of float32 inputs; quantizing them is part of the integer products."""
    cases = []
    for rows, depth, columns in (*SHAPES, *THIN_SHAPES):
        for kind in ("affine8", "affine4", "affine4 g128", "lookup4", "lookup2", "float32"):
            is_beyond = depth * columns > MOST_CACHED and kind in ("lookup4", "lookup2")  # as affine4, and slow to make
            if not is_beyond and depth % GROUPS.get(kind, 1) == 0:
                cases.append(_case(kind, rows, depth, columns))
    return cases


def _case(kind: str, rows: int, depth: int, columns: int) -> Case:
    weight_bytes = depth * columns * BITS[kind] / 8
    copies = _copies(rows, depth, columns, weight_bytes)
    ops = 2.0 * rows * depth * columns
    work = Work(
        float_ops=ops if kind == "float32" else 0,
        int8_ops=0 if kind == "float32" else ops,
        bytes=weight_bytes + 4 * rows * (depth + columns),
        footprint=weight_bytes * copies,
    )
    size = (rows, depth, columns, copies)
    ways: dict[str, Build] = {OURS: lambda threads: _ours(kind, *size, threads)}
    notes: dict[str, str] = {}
    if kind == "float32":
        ways["torch"] = lambda threads: _torch_linear(*size)
        ways["onnxruntime"] = lambda threads: onnx_models.matmul_f32(*size, threads)
        ways["openvino"] = lambda threads: openvino_models.matmul_f32(*size, threads)
    elif kind == "affine8":
        ways["torch _int_mm"] = lambda threads: _torch_int_mm(*size)
        ways["torch dynamic"] = lambda threads: _torch_dynamic(*size)
        ways["onnxruntime"] = lambda threads: onnx_models.matmul_i8(*size, threads)
        ways["openvino"] = lambda threads: openvino_models.matmul_i8(*size, threads)
        ways["llama.cpp"] = lambda threads: ggml.matmul("q8_0", *size, threads)
        notes["torch _int_mm"] = "int32 products alone, without quantization of inputs or scales"
        notes["openvino"] = "inputs in a fixed range (FakeQuantize)"
        notes["llama.cpp"] = "Q8_0: scales for each 32"
    else:
        group = GROUPS.get(kind, GROUPS["affine4"])
        ways["onnxruntime"] = lambda threads: onnx_models.matmul_i4(*size, group, threads)
        ways["openvino"] = lambda threads: openvino_models.matmul_i4(*size, group, threads)
        if group == ggml.BLOCK:
            ways["llama.cpp"] = lambda threads: ggml.matmul("q4_0", *size, threads)
        ways["ferrule affine8"] = lambda threads: _ours("affine8", *size, threads)
        if kind not in GROUPS:
            notes |= dict.fromkeys(("onnxruntime", "openvino", "llama.cpp"), "int4 in groups of 32: it has no lookup")
    op = "gemv" if rows == 1 else "gemm"
    return Case(op, f"{rows}x{depth}x{columns}", kind, work, ways, notes)


def _copies(rows: int, depth: int, columns: int, weight_bytes: float) -> int:
    """Copies of the weights. A few rows read them from where they lie; many rows read each of them once at most."""
    wanted = WITHIN if depth * columns <= MOST_CACHED else BEYOND
    return min(max(2, round(wanted / weight_bytes)), MOST_COPIES)


def _draw(rows: int, depth: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, depth), np.float32)


def _ours(kind: str, rows: int, depth: int, columns: int, copies: int, threads: int) -> Body:
    from ferrule.runtime import _C

    rng = np.random.default_rng(1)
    more: dict[str, Any] = {"kind": kind.split()[0], "input": "float32" if kind == "float32" else "dynamic8"}
    scales: Any = np.full(columns, 0.01, np.float32)
    if kind == "float32":
        weight, scales = _draw(columns, depth), None
    elif kind == "affine8":
        weight = rng.integers(-127, 128, (columns, depth), np.int8)
    elif kind in GROUPS:
        weight, more["group"] = rng.integers(-8, 8, (columns, depth), np.int8), GROUPS[kind]
        scales = np.full((columns, -(-depth // GROUPS[kind])), 2.0**-7, np.float32)
    else:
        entries = 16 if kind == "lookup4" else 4
        weight = rng.integers(0, entries, (columns, depth), np.uint8)
        more["table"] = np.sort(rng.standard_normal((1, entries), np.float32))
    layers = [_C.PackedLinear.pack(weight, scales, **more) for _ in range(copies)]
    x, out = _draw(rows, depth), np.empty((rows, columns), np.float32)
    pool = _C.Pool(threads)
    return lambda turn: layers[turn % copies].run(x, out=out, pool=pool)


def _torch_linear(rows: int, depth: int, columns: int, copies: int) -> Body:
    import torch

    layers = [torch.randn(columns, depth) for _ in range(copies)]
    x = torch.randn(rows, depth)
    return lambda turn: torch.nn.functional.linear(x, layers[turn % copies])


def _torch_int_mm(rows: int, depth: int, columns: int, copies: int) -> Body:
    import torch

    product: Callable[..., Any] = torch._int_mm
    layers = [torch.randint(-127, 128, (columns, depth), dtype=torch.int8).t() for _ in range(copies)]
    x = torch.randint(-127, 128, (rows, depth), dtype=torch.int8)
    return lambda turn: product(x, layers[turn % copies])


def _torch_dynamic(rows: int, depth: int, columns: int, copies: int) -> Body:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scales, zeros = torch.full((columns,), 0.01), torch.zeros(columns, dtype=torch.int64)
        weight = torch.quantize_per_channel(torch.randn(columns, depth), scales, zeros, 0, torch.qint8)
        packed = [torch.ops.quantized.linear_prepack(weight, None) for _ in range(copies)]
    x = torch.randn(rows, depth)
    return lambda turn: torch.ops.quantized.linear_dynamic(x, packed[turn % copies])
