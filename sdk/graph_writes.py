"""What a captured graph writes to besides its outputs: buffers (state) and inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["written_buffers", "written_inputs"]


def written_buffers(program: ExportedProgram) -> list[str]:
    """Names of the buffers that a run changes, sorted."""
    return sorted(_functional_signature(program).buffers_to_mutate.values())


def written_inputs(program: ExportedProgram) -> list[str]:
    """Names of the inputs that a run changes in place, sorted."""
    return sorted(_functional_signature(program).user_inputs_to_mutate.values())


def _functional_signature(program: ExportedProgram) -> Any:
    """Which tensors an in-place op reaches shows only after functionalization, done where there is such an op."""
    schemas = (getattr(node.target, "_schema", None) for node in program.graph.nodes)
    if any(schema is not None and schema.is_mutable for schema in schemas):
        return program.run_decompositions({}).graph_signature
    return program.graph_signature
