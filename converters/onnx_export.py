"""torch.export graph -> ONNX model without traces of where it was made, and the toolkit's refusals in our words."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ferrule.converters.kernel_layers import calls_kernels
from ferrule.converters.onnx_kernels import translations
from ferrule.converters.source_lines import origin, place
from ferrule.errors import LoweringError
from ferrule.graph_writes import written_buffers
from ferrule.model import Captured
from ferrule.program import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["OPSET", "to_onnx"]

_FX_NODE = re.compile(r"%(\w+)")

OPSET = 20
"""The first with an op for GELU; ONNX Runtime runs it since 1.17."""


def to_onnx(name: str, graph: Captured) -> ir.Model:
    """The entry point as an ONNX model in memory whose inputs, outputs and axes bear the signature's names.

    Raises LoweringError FER-LOW-001 (an op without an ONNX form) and FER-LOW-004 (a module that keeps state).
    """
    import torch

    signature = graph.signature
    with warnings.catch_warnings():
        # The toolkit's own code draws them; they say nothing about the model.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        _refuse_state(name, graph)
        try:
            exported: Any = torch.onnx.export(
                graph.program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                custom_translation_table=translations() if calls_kernels(graph.program) else {},
            )
        except torch.onnx.OnnxExporterError as error:
            raise _explain(name, error, graph) from error
    model: ir.Model = exported.model
    origins = _origins(model, {node.name: origin(node) for node in exported.exported_program.graph.nodes})
    _strip(model)
    _name(model, name, signature)
    for node, found in origins.items():
        node.name = f"{found}/{(node.outputs[0].name or '').removeprefix('/')}"
    return model


def _origins(model: ir.Model, known: Mapping[str, str]) -> dict[ir.Node, str]:
    """The captured graph's node behind each op; `known` tells it for the nodes that the toolkit names.

    An op that it made by itself belongs to what reads it.
    """
    found: dict[ir.Node, str] = {}
    for node in reversed(list(model.graph.all_nodes())):
        match = _FX_NODE.match(node.metadata_props.get("pkg.torch.onnx.fx_node", ""))
        names = [match.group(1)] if match else [value.name or "" for value in node.outputs]
        readers = [found.get(reader, "") for value in node.outputs for reader in value.consumers()]
        found[node] = next((known[n] for n in names if known.get(n)), next(filter(None, readers), ""))
    return found


def _refuse_state(name: str, graph: Captured) -> None:
    """Writes to buffers would become outputs that no one feeds back."""
    written = written_buffers(graph.program)
    if written:
        raise LoweringError(
            "FER-LOW-004",
            f"Target onnx: entry point {name!r} writes to the buffers {written}; an ONNX graph keeps "
            "no state between runs.",
            "Pass the state as an input and return it as an output.",
        )


def _strip(model: ir.Model) -> None:
    """Drop source paths, stack traces and inferred shapes, which ONNX Runtime works out by itself."""
    model.producer_name, model.producer_version, model.doc_string = "ferrule", None, None
    model.metadata_props.clear()
    for graph in (model.graph, *model.graph.subgraphs()):
        graph.doc_string = None
        graph.metadata_props.clear()
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
            value.metadata_props.clear()
            value.doc_string = None
    for node in model.graph.all_nodes():
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    outputs = set(model.graph.outputs)
    for node in model.graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = value.type = None


def _name(model: ir.Model, name: str, signature: Signature) -> None:
    """Give inputs and outputs the signature's names; what lies between them bears a slash, lest one be the same."""
    graph = model.graph
    graph.name = name
    _own_outputs(graph)
    for value in [v for nested in graph.subgraphs() for v in nested.inputs]:
        value.name = f"/{value.name}"
    for node in graph.all_nodes():
        for value in node.outputs:
            value.name = f"/{value.name}"
    taken = {spec.name for spec in (*signature.inputs, *signature.outputs)}
    for value in [v for key, v in graph.initializers.items() if key in taken]:
        value.name = f"/{value.name}"
    for values, specs in ((graph.inputs, signature.inputs), (graph.outputs, signature.outputs)):
        for value, spec in zip(values, specs, strict=True):
            value.name, value.shape = spec.name, _shape(spec)


def _own_outputs(graph: ir.Graph) -> None:
    """An output that is also an input, a weight or an earlier output becomes a copy that can bear its own name."""
    import onnx_ir as ir

    seen = {*graph.inputs, *graph.initializers.values()}
    for index, value in enumerate(graph.outputs):
        if value in seen:
            copy = ir.node("Identity", [value])
            copy.outputs[0].type = value.type
            graph.append(copy)
            graph.outputs[index] = copy.outputs[0]
        seen.add(graph.outputs[index])


def _shape(spec: TensorSpec) -> ir.Shape:
    """Names of axes stay; an axis that is only known as a formula is left open."""
    import onnx_ir as ir

    return ir.Shape([n if isinstance(n, int) or n.isidentifier() else None for n in spec.shape])


def _explain(name: str, error: Exception, graph: Captured) -> LoweringError:
    """Name the op, the layer and the line; the toolkit's own sentence is the last of the chain."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    first = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    found = re.search(r"OpOverload\(op='([\w.]+)'", first) or re.search(r"torch\.ops\.([\w.]+)\.\w+", str(error))
    op = found.group(1) if found else ""
    where = _locate(op, graph) if op else ""
    return LoweringError(
        "FER-LOW-001",
        f"Target onnx: the toolkit cannot convert {f'op {op!r}' if op else 'the graph'}{where} of entry point "
        f"{name!r}: {first.rstrip('.')}.",
        "Replace the op in the model by others, or choose another target.",
    )


def _locate(op: str, graph: Captured) -> str:
    """Layer and line of the first node that is the op, or is decomposed into it (`linalg_eigh`, `_linalg_eigh`)."""
    wanted = op.replace("._", ".")
    for node in graph.program.graph.nodes:
        if node.op == "call_function" and str(node.target).replace("._", ".").rpartition(".")[0] == wanted:
            return place(node)
    return ""
