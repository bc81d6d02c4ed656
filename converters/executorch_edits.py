"""Edits of a captured graph: the three that rewrites are made of, and names that the toolkit can work with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

__all__ = ["call", "calls", "name_weights", "swap"]


def call(like: fx.Node, target: Any, *args: Any) -> fx.Node:
    """A new call before `like`, of the same origin."""
    with like.graph.inserting_before(like):
        node = like.graph.call_function(target, args)
    node.meta.update({k: v for k, v in like.meta.items() if k in ("stack_trace", "nn_module_stack", "custom")})
    return node


def calls(program: ExportedProgram, target: Any) -> list[fx.Node]:
    """All calls of an op, in graph order."""
    return [n for n in program.graph.nodes if n.op == "call_function" and n.target == target]


def swap(node: fx.Node, new: fx.Node) -> None:
    """Put `new` where `node` is used."""
    node.replace_all_uses_with(new)
    new.meta.setdefault("val", node.meta.get("val"))
    node.graph.erase_node(node)


def name_weights(program: ExportedProgram) -> None:
    """Give weights of a bare nn.Sequential (`0.weight`) names that are identifiers: ExecuTorch makes nodes of them."""
    for spec in program.graph_signature.input_specs:
        old = spec.target
        if old is None or not old[:1].isdigit():
            continue
        spec.target = f"layer_{old}"
        for store in (program.state_dict, program.constants):
            if old in store:
                store[spec.target] = store[old]
        for output in program.graph_signature.output_specs:
            if output.target == old:
                output.target = spec.target
