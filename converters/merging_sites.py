"""Token merging for targets without a kernel of it: `ferrule::merge_tokens` in plain ops.

before   x, keys ── ferrule.merge_tokens ── tokens, sizes, where each went
after    x, keys ── matmul, topk, gather, … ── the same three
"""

from __future__ import annotations

from collections.abc import Mapping

from ferrule.converters.coded_sites import capture_module
from ferrule.model import Captured

__all__ = ["write_out_merging"]


def write_out_merging(graphs: Mapping[str, Captured]) -> dict[str, Captured]:
    """The graphs with every merging in plain ops; one without any comes back as it is."""
    return {name: _write_out(graph) for name, graph in graphs.items()}


def _write_out(graph: Captured) -> Captured:
    from ferrule.techniques.tokens.merge_op import merge_by_plain_ops

    module = graph.program.module(check_guards=False)
    found = [
        n for n in module.graph.nodes if n.op == "call_function" and str(n.target) == "ferrule.merge_tokens.default"
    ]
    if not found:
        return graph
    for node in found:
        node.target = merge_by_plain_ops
    module.recompile()
    return capture_module(module, graph, {})
