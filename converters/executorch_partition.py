"""What XNNPACK takes: ExecuTorch's partitioner, two rules of ours, and its reasons for what it leaves.

XNNPACK multiplies float inputs with int8 or int4 weights (a scale a row) by kernels of its own, but ExecuTorch's rule
for linear layers asks for quantized inputs as well. Ours lets float inputs through; the file and the runtime need
nothing new.

What stands between two static int8 layers stays in float, as in the model: ExecuTorch would hand a view or a slice
between two ranges to XNNPACK as one on int8, which the runtime refuses where the ranges differ.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["collect_reasons", "make_partitioner"]

_LOGGER = "executorch.backends.xnnpack.partition.config"


def make_partitioner() -> Any:
    """ExecuTorch's XNNPACK partitioner whose rule for linear layers also takes float inputs with integer weights."""
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS, LinearConfig
    from executorch.backends.xnnpack.partition.config.generic_node_configs import GenericNodePartitionerConfig
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.utils.quant_utils import is_dequant, is_dynamic_qdq, is_per_channel_group, is_quant

    class Linear(LinearConfig):
        def _has_float_inputs(self, node: Any) -> bool:
            x, weight = node.args[:2]
            if len(node.args) != 2 or not is_dequant(weight) or is_per_channel_group(weight):
                return False
            # What a static layer returns is dequantized too, and then a layer that takes floats may follow.
            return not is_dequant(x) or not (is_dynamic_qdq(x) or any(is_quant(user) for user in node.users))

        def _get_act_deps(self, node: Any, program: Any, precision: Any) -> Any:
            if self._has_float_inputs(node):
                return True, []
            return super()._get_act_deps(node, program, precision)

        def _get_output_deps(self, node: Any, program: Any, precision: Any) -> Any:
            if self._has_float_inputs(node):
                precision = ConfigPrecisionType.FP32
            return super()._get_output_deps(node, program, precision)

    class Partitioner(XnnpackPartitioner):
        def ops_to_not_decompose(self, program: Any) -> Any:
            """The same ops, but decided once where that is possible: a second round of decomposing is saved."""
            ops, accepts = super().ops_to_not_decompose(program)
            present = [n for n in program.graph.nodes if n.op == "call_function" and n.target in ops]
            if all(accepts(node) for node in present):
                return sorted({node.target for node in present}, key=str), None
            return ops, accepts

    partitioner = Partitioner(configs=[Linear if rule is LinearConfig else rule for rule in ALL_PARTITIONER_CONFIGS])
    floats = ConfigPrecisionType.FP32
    for rule in partitioner.target_partitioner_configs.values():
        if isinstance(rule, GenericNodePartitionerConfig) and floats in rule.supported_precision_types():
            rule.set_enabled_precision_types([floats])
    return partitioner


@contextmanager
def collect_reasons() -> Iterator[dict[str, str]]:
    """Node name -> why the partitioner left it; filled while the block runs."""
    reasons: dict[str, str] = {}

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            node, reason = getattr(record.msg, "node", None), getattr(record.msg, "reason", "")
            if node is not None:
                reasons.setdefault(node.name, str(reason).rstrip("."))

    loggers = [logging.getLogger(f"{_LOGGER}.{n}") for n in _MODULES]
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    handler = Collector(logging.DEBUG)
    try:
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
        yield reasons
    finally:
        for logger, level, propagate in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


_MODULES = ("xnnpack_config", "gemm_configs", "generic_node_configs", "node_configs")
