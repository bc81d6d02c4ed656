"""Products as OpenVINO does them: models of one layer, in the forms that NNCF writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import Body

__all__ = ["attention", "matmul_f32", "matmul_i4", "matmul_i8"]

LOW, HIGH = -4.0, 4.0 * 127 / 128


def matmul_f32(rows: int, depth: int, columns: int, copies: int, threads: int) -> Body:
    """MatMul, computed in float32."""

    def make(op: Any, x: Any) -> Any:
        weight = np.random.default_rng(1).standard_normal((columns, depth), np.float32)
        return op.matmul(x, op.constant(weight), False, True)

    return _open(make, rows, depth, copies, threads)


def matmul_i8(rows: int, depth: int, columns: int, copies: int, threads: int) -> Body:
    """FakeQuantize before int8 weights with a scale for each column: int8 arithmetic."""

    def make(op: Any, x: Any) -> Any:
        low, high = op.constant(np.float32(LOW)), op.constant(np.float32(HIGH))
        quantized = op.fake_quantize(x, low, high, low, high, 256)
        codes = op.constant(np.random.default_rng(1).integers(-127, 128, (columns, depth), np.int8))
        weight = op.multiply(op.convert(codes, "f32"), op.constant(np.full((columns, 1), 0.01, np.float32)))
        return op.matmul(quantized, weight, False, True)

    return _open(make, rows, depth, copies, threads)


def matmul_i4(rows: int, depth: int, columns: int, copies: int, group: int, threads: int) -> Body:
    """Weight compression to int4 in groups; inputs are quantized on the way, as is the CPU plugin's default."""

    kept = []  # a tensor of codes points into the array

    def make(op: Any, x: Any) -> Any:
        import openvino

        packed = np.random.default_rng(1).integers(0, 256, columns * depth // 2, np.uint8)
        kept.append(packed)
        shape = openvino.Shape([columns, depth // group, group])
        codes = op.convert(op.constant(openvino.Tensor(packed, shape, openvino.Type.i4)), "f16")
        scales = op.constant(np.full((columns, depth // group, 1), 0.01, np.float16))
        flat = op.reshape(op.multiply(codes, scales), op.constant(np.array([columns, depth])), False)
        return op.matmul(x, op.convert(flat, "f32"), False, True)

    return _open(make, rows, depth, copies, threads)


def attention(shape: tuple[int, int, int, int], threads: int) -> Body:
    """ScaledDotProductAttention of queries, keys and values of one shape (batch, heads, tokens, head size)."""
    import openvino
    from openvino import opset13

    inputs = [opset13.parameter(shape, np.float32) for _ in range(3)]
    result = opset13.result(opset13.scaled_dot_product_attention(*inputs))
    model = openvino.Model([result], inputs, "attention")
    request = openvino.Core().compile_model(model, "CPU", _config(threads)).create_infer_request()
    for index in range(3):
        data = np.random.default_rng(index).standard_normal(shape, np.float32)
        request.set_input_tensor(index, openvino.Tensor(data, shared_memory=True))
    return lambda turn: request.infer()


def _config(threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }


def _open(make: Callable[[Any, Any], Any], rows: int, depth: int, copies: int, threads: int) -> Body:
    import openvino
    from openvino import opset13

    core = openvino.Core()
    data = np.random.default_rng(0).standard_normal((rows, depth), np.float32)
    requests = []
    for _ in range(copies):
        x = opset13.parameter([rows, depth], np.float32)
        model = openvino.Model([opset13.result(make(opset13, x))], [x], "product")
        request = core.compile_model(model, "CPU", _config(threads)).create_infer_request()
        request.set_input_tensor(openvino.Tensor(data, shared_memory=True))
        requests.append(request)
    return lambda turn: requests[turn % copies].infer()
