"""What ONNX Runtime makes of a file: it is loaded and run once on the example inputs, and the runtime says what ran."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ferrule.errors import LoweringError
from ferrule.program import OpRow

__all__ = ["delegation_table", "run_ops"]

_REASONS: Mapping[str, str] = {
    "MatMulIntegerToFloat": "8-bit integer kernel, weights packed when the file is loaded",
    "MatMulNBits": "kernel for weights of 4 or 8 bits in blocks, packed when the file is loaded",
    "GatherBlockQuantized": "decodes the rows that are asked for",
}
_PLAIN = "kernel of the CPU provider"


def delegation_table(ops: Counter[tuple[str, str]]) -> tuple[OpRow, ...]:
    """A row for each kind of op and unit; ops are counted as they ran, after ONNX Runtime's own fusions."""
    return tuple(
        OpRow(op, _unit(provider), _REASONS.get(op, _PLAIN), count, basis="measured")
        for (op, provider), count in sorted(ops.items())
    )


def run_ops(path: Path, feeds: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """Op and provider of every node that ran, read from the runtime's profile of one run.

    Raises LoweringError FER-LOW-001 when ONNX Runtime refuses the file.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # refusals reach the user as errors
    options.enable_profiling = True
    with TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            session.run(None, dict(feeds))
        except Exception as error:
            first = str(error).strip().splitlines()[0]
            raise LoweringError(
                "FER-LOW-001",
                f"ONNX Runtime {ort.__version__} refuses {path.name}: {first}",
                "Replace the op that it names in the model by others, or choose another target.",
            ) from error
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    # By name, so that the body of a loop counts once.
    nodes = {e["name"]: e["args"] for e in events if e.get("name", "").endswith("_kernel_time")}
    return Counter((args["op_name"], args["provider"]) for args in nodes.values())


def _unit(provider: str) -> str:
    return "cpu:mlas" if provider == "CPUExecutionProvider" else provider
