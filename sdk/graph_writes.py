"""What a captured graph writes to besides its outputs: buffers (state) and inputs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["remembered_buffers", "written_buffers", "written_inputs"]


def written_buffers(program: ExportedProgram) -> list[str]:
    """Names of the buffers that a run changes, sorted."""
    return sorted(_functional_signature(program).buffers_to_mutate.values())


def remembered_buffers(program: ExportedProgram) -> list[str]:
    """Written buffers that a later run's outputs depend on, sorted: a counter that nothing reads is none."""
    functional = _functional(program)
    signature = functional.graph_signature
    if not signature.buffers_to_mutate:
        return []
    nodes = {node.name: node for node in functional.graph.nodes}
    held = {spec.target: spec.arg.name for spec in signature.input_specs if spec.target is not None}
    writes = {buffer: made for made, buffer in signature.buffers_to_mutate.items()}
    pending, seen = [nodes[name] for name in signature.user_outputs if name in nodes], set()
    known = {held[buffer]: buffer for buffer in writes}
    found: set[str] = set()
    while pending:
        node = pending.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        pending += node.all_input_nodes
        if node.name in known:
            found.add(known[node.name])
            pending.append(nodes[writes[known[node.name]]])
    return sorted(found)


def written_inputs(program: ExportedProgram) -> list[str]:
    """Names of the inputs that a run changes in place, sorted."""
    return sorted(_functional_signature(program).user_inputs_to_mutate.values())


def _functional_signature(program: ExportedProgram) -> Any:
    return _functional(program).graph_signature


def _functional(program: ExportedProgram) -> ExportedProgram:
    """Which tensors an in-place op reaches shows only after functionalization, done where there is such an op."""
    schemas = (getattr(node.target, "_schema", None) for node in program.graph.nodes)
    if any(schema is not None and schema.is_mutable for schema in schemas):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch's own code about itself
            return program.run_decompositions({})
    return program
