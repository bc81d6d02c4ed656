"""Products as ONNX Runtime does them: graphs of one layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import Body

__all__ = ["conv", "layer_norm", "matmul_f32", "matmul_i4", "matmul_i8"]


def matmul_f32(rows: int, depth: int, columns: int, copies: int, threads: int) -> Body:
    """MatMul."""

    def make(seed: int) -> tuple[list[Any], dict[str, Any]]:
        from onnx import helper

        weight = np.random.default_rng(seed).standard_normal((depth, columns), np.float32)
        return [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight}

    return _open_sessions(make, (rows, depth), (rows, columns), copies, threads)


def matmul_i8(rows: int, depth: int, columns: int, copies: int, threads: int) -> Body:
    """Dynamic int8, a scale for each column: what quantize_dynamic writes, fused by ONNX Runtime on loading."""

    def make(seed: int) -> tuple[list[Any], dict[str, Any]]:
        from onnx import TensorProto, helper

        nodes = [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
            helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["s", "ws"], ["m"]),
            helper.make_node("Mul", ["f", "m"], ["y"]),
        ]
        weight = np.random.default_rng(seed).integers(-127, 128, (depth, columns), np.int8)
        return nodes, {"w": weight, "wz": np.zeros(columns, np.int8), "ws": np.full(columns, 0.01, np.float32)}

    return _open_sessions(make, (rows, depth), (rows, columns), copies, threads)


def matmul_i4(rows: int, depth: int, columns: int, copies: int, group: int, threads: int) -> Body:
    """MatMulNBits with int8 arithmetic (accuracy level 4), blocks of `group`."""

    def make(seed: int) -> tuple[list[Any], dict[str, Any]]:
        from onnx import helper

        attributes = {"K": depth, "N": columns, "bits": 4, "block_size": group, "accuracy_level": 4}
        nodes = [helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **attributes)]
        blocks = -(-depth // group)
        shape = (columns, blocks, group // 2)
        weight = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        return nodes, {"w": weight, "s": np.full(columns * blocks, 0.01, np.float32)}

    return _open_sessions(make, (rows, depth), (rows, columns), copies, threads)


def layer_norm(rows: int, width: int, threads: int) -> Body:
    """LayerNormalization."""

    def make(seed: int) -> tuple[list[Any], dict[str, Any]]:
        from onnx import helper

        weight, bias = np.random.default_rng(seed).standard_normal((2, width), np.float32)
        return [helper.make_node("LayerNormalization", ["x", "w", "b"], ["y"])], {"w": weight, "b": bias}

    return _open_sessions(make, (rows, width), (rows, width), 1, threads)


def conv(size: int, channels: int, outputs: int, kernel: int, stride: int, groups: int, threads: int) -> Body:
    """Conv, padded by half the kernel; channels first, which is the only layout that ONNX has."""

    def make(seed: int) -> tuple[list[Any], dict[str, Any]]:
        from onnx import helper

        shape = (outputs, channels // groups, kernel, kernel)
        attributes = {"pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": groups}
        weight = np.random.default_rng(seed).standard_normal(shape, np.float32)
        return [helper.make_node("Conv", ["x", "w"], ["y"], **attributes)], {"w": weight}

    side = -(-size // stride)
    return _open_sessions(make, (1, channels, size, size), (1, outputs, side, side), 1, threads)


@cache
def _make_threads(threads: int) -> None:
    """The process's pool; it can be made once."""
    import onnxruntime

    onnxruntime.set_global_thread_pool_sizes(threads, 1)


def _open_sessions(
    make: Callable[[int], tuple[list[Any], dict[str, Any]]],
    inputs: tuple[int, ...],
    outputs: tuple[int, ...],
    copies: int,
    threads: int,
) -> Body:
    """A session for each copy, all on one pool of threads; inputs and outputs are bound to memory once."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    _make_threads(threads)

    options = onnxruntime.SessionOptions()
    options.use_per_session_threads = False  # the threads of idle sessions would spin on the cores of the busy one
    x = np.random.default_rng(0).standard_normal(inputs, np.float32)
    bound = []
    for copy in range(copies):
        nodes, constants = make(copy)
        graph = helper.make_graph(
            nodes,
            "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_cpu_input("x", x)
        binding.bind_output("y")
        bound.append((session, binding))

    def body(turn: int) -> None:
        session, binding = bound[turn % copies]
        session.run_with_iobinding(binding)

    return body
