"""Names of tensors in a .tflite file: each begins with the node of the captured graph that it was made from.

The toolkit names tensors after the place where an op was written, and merges the names where it merges ops:

    gelu;                       the value of node `gelu`
    layer_norm_1;9              a value on the way to that of `layer_norm_1`
    tanh;;reshape;;transpose;   the value of `tanh`, made in one with the others
    forward_output_0_output     the first output
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ferrule.converters.source_lines import origin

if TYPE_CHECKING:
    from ferrule.model import Captured

__all__ = ["name_tensors", "op_origin", "output_nodes", "tensor_origin"]

_OUTPUT = re.compile(r"_output_(\d+)_output$")


@contextmanager
def name_tensors(graphs: Sequence[Captured]) -> Iterator[None]:
    """Have the toolkit name tensors after the nodes of these graphs, which it converts in this order."""
    from litert_torch.backend import debuginfo

    known: list[dict[str, str]] = []
    for graph in graphs:
        nodes = list(graph.program.graph.nodes)
        for node in nodes:
            node.meta.pop("from_node", None)  # history ends here: its oldest name is one of this graph
        known.append({node.name: origin(node) for node in nodes})
    seen: list[Any] = []
    before = debuginfo.build_mlir_debuginfo

    def name(node: Any) -> str | None:
        if node.graph not in seen:
            seen.append(node.graph)
        found = known[min(len(seen), len(known)) - 1].get(_oldest_name(node), "")
        return f"{found};" if found else None

    debuginfo.build_mlir_debuginfo = name
    try:
        yield
    finally:
        debuginfo.build_mlir_debuginfo = before


def _oldest_name(node: Any) -> str:
    name, history = str(node.name), node.meta.get("from_node") or []
    while history:
        name, history = str(history[0].name), history[0].from_node
    return name


def output_nodes(graph: Captured) -> tuple[str, ...]:
    """Names of the nodes that a captured graph returns to the user, in order."""
    results = next(node for node in graph.program.graph.nodes if node.op == "output").args[0]
    return tuple(node.name for node in results[len(results) - len(graph.signature.outputs) :])


def tensor_origin(name: str, outputs: Sequence[str]) -> str:
    """The captured graph's node whose value a tensor holds, or leads to; empty where its name does not tell."""
    if ";" in name:
        return name.partition(";")[0]
    found = _OUTPUT.search(name)
    return outputs[int(found.group(1))] if found and int(found.group(1)) < len(outputs) else ""


def op_origin(graph: Any, op: Any, outputs: Sequence[str], readers: Mapping[int, Any]) -> str:
    """The node that an op belongs to: by its own tensor's name, or else its reader's (constants that are decoded)."""
    for _ in range(len(graph.operators)):
        found = tensor_origin(graph.tensors[op.outputs[0]].name.decode(), outputs)
        if found or op.outputs[0] not in readers:
            return found
        op = readers[op.outputs[0]]
    return ""
