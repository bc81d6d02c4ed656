"""What ONNX Runtime makes of a file: it is loaded and run once on the example inputs, and the runtime says what ran.

The table lists the ops of the file. Names of its nodes begin with the captured graph's node, `gelu/gelu`,
`coded_linear_1/add_3`; ops that the runtime merged with their neighbours ran under another name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ferrule.converters.kernel_layers import REASON, UNIT
from ferrule.converters.onnx_kernels import DOMAIN
from ferrule.converters.source_lines import Places
from ferrule.errors import LoweringError
from ferrule.program import OpRow
from ferrule.runtime.engines.onnx import add_our_ops
from ferrule.runtime.vendor_ops import library_path

__all__ = ["delegation_rows", "node_origin"]

_REASONS: Mapping[str, str] = {
    "MatMulIntegerToFloat": "8-bit integer kernel, weights packed when the file is loaded",
    "QGemm": "8-bit integer kernel from int8 to int8, weights packed when the file is loaded",
    "MatMulNBits": "kernel for weights of 4 or 8 bits in blocks, packed when the file is loaded",
    "GatherBlockQuantized": "decodes the rows that are asked for",
}
_PLAIN = "kernel of the CPU provider"
_FOLDED = "left out by ONNX Runtime's optimizer: its value is known when the file is loaded, or it changes nothing"
_PARTS: Mapping[str, frozenset[str]] = {
    # what ONNX Runtime puts in the place of several ops -> kinds of the ops that it may have swallowed
    "BiasGelu": frozenset({"Add", "Gelu"}),
    "FastGelu": frozenset({"Add", "Gelu", "Mul", "Tanh", "Pow"}),
    "FusedMatMul": frozenset({"MatMul", "Mul", "Div", "Transpose"}),
    "FusedGemm": frozenset({"Gemm", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip"}),
    "FusedConv": frozenset({"Conv", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "Add", "HardSigmoid"}),
    "Gemm": frozenset({"MatMul", "Add", "Transpose"}),
    "Conv": frozenset({"Conv", "Add", "Mul", "BatchNormalization", "Relu", "Clip", "Pad"}),
    "LayerNormalization": frozenset({"ReduceMean", "Sub", "Pow", "Add", "Sqrt", "Div", "Mul"}),
    "QuickGelu": frozenset({"Mul", "Sigmoid"}),
    "MatMulNBits": frozenset({"MatMulNBits", "Add"}),
    "SimplifiedLayerNormalization": frozenset({"Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"}),
    "SkipLayerNormalization": frozenset({"Add", "LayerNormalization"}),
    "SkipSimplifiedLayerNormalization": frozenset({"Add", "SimplifiedLayerNormalization"}),
    "DynamicQuantizeMatMul": frozenset({"DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Add"}),
}


def delegation_rows(
    paths: Mapping[str, Path], feeds: Mapping[str, Mapping[str, Any]], places: Places
) -> tuple[OpRow, ...]:
    """A row for each kind of op, unit, reason and source over the files of all entry points.

    Raises LoweringError FER-LOW-001 when ONNX Runtime refuses a file, TargetError FER-TGT-006 where our kernels are
    called and their library was not built.
    """
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for name, path in paths.items():
        written = list(_nodes(path))
        if any(domain == DOMAIN for _, _, domain in written):
            library_path("onnxruntime")
        ran = _run(path, feeds[name])
        names = {node for node, _, _ in written}
        merged = Counter(op for node, (op, _) in ran.items() if node not in names)
        for node, op, domain in written:
            unit, reason = _explain(node, op, domain == DOMAIN, ran, merged)
            counts[op, unit, reason, places[name].get(node_origin(node), "")] += 1
    return tuple(OpRow(op, u, why, n, source, "measured") for (op, u, why, source), n in sorted(counts.items()))


def node_origin(name: str) -> str:
    """The captured graph's node that a node of the file was made from, empty if none."""
    return name.partition("/")[0]


def _nodes(path: Path) -> Iterable[tuple[str, str, str]]:
    """Name, kind and domain of every op of a file, bodies of branches and loops included, in order."""
    import onnx

    pending = [onnx.load(path, load_external_data=False).graph]
    while pending:
        for node in pending.pop().node:
            yield node.name, node.op_type, node.domain
            pending += [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]


def _run(path: Path, feeds: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Node -> op and provider, of all that ran, read from the runtime's profile of one run."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # refusals reach the user as errors
    options.enable_profiling = True
    add_our_ops(options, 1)
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
    end = "_kernel_time"
    kernels = [(e["name"].removesuffix(end), e["args"]) for e in events if e.get("name", "").endswith(end)]
    return {name: (args["op_name"], args["provider"]) for name, args in kernels}


def _explain(
    node: str, op: str, own: bool, ran: Mapping[str, tuple[str, str]], merged: Counter[str]
) -> tuple[str, str]:
    """Unit and reason of an op of the file; own: whether it is one of ours."""
    if node in ran:
        made, provider = ran[node]
        if own:
            return UNIT, REASON
        return _unit(provider), _REASONS.get(op, _PLAIN) if made == op else f"run by ONNX Runtime as {made}"
    swallowed = sorted(kind for kind in merged if op in _PARTS.get(kind, ()))
    if swallowed:
        return "cpu:mlas", f"merged with its neighbours by ONNX Runtime, into {' or '.join(swallowed)}"
    return "cpu:mlas", _FOLDED


def _unit(provider: str) -> str:
    return "cpu:mlas" if provider == "CPUExecutionProvider" else provider
