"""What XNNPACK takes: ExecuTorch's partitioner, one rule of ours more, and its reasons for what it leaves.

XNNPACK multiplies float inputs with int8 or int4 weights (a scale a row) by kernels of its own, but ExecuTorch's rule
for linear layers asks for quantized inputs as well. Ours lets float inputs through; the file and the runtime need
nothing new.
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
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.utils.quant_utils import is_dequant, is_per_channel_group

    class Linear(LinearConfig):
        def _has_float_inputs(self, node: Any) -> bool:
            x, weight = node.args[:2]
            return len(node.args) == 2 and is_dequant(weight) and not (is_dequant(x) or is_per_channel_group(weight))

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

    rules = [Linear if rule is LinearConfig else rule for rule in ALL_PARTITIONER_CONFIGS]
    return Partitioner(configs=rules)


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
