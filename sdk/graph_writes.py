"""What a captured graph writes to besides its outputs: buffers (state) and inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
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
    if not _may_write_inputs(program):
        return []  # known without functionalizing, which takes longer than the capture did
    return sorted(_functional_signature(program).user_inputs_to_mutate.values())


def _may_write_inputs(program: ExportedProgram) -> bool:
    """Whether an in-place op's argument can share memory with an input, followed back through what may be a view."""
    inputs = set(program.graph_signature.user_inputs)
    pending = [argument for node in program.graph.nodes for argument in _written_arguments(node)]
    seen: set[Any] = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.name in inputs:
            return True
        if not _has_own_memory(node.target):
            pending += node.all_input_nodes
    return False


def _written_arguments(node: Any) -> Iterator[Any]:
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return
    given = dict(zip((each.name for each in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    for each in schema.arguments:
        if each.is_write and each.name in given:
            values = given[each.name] if isinstance(given[each.name], list | tuple) else [given[each.name]]
            yield from (value for value in values if value is not None)


def _has_own_memory(target: Any) -> bool:
    """Whether the op's results are new. Composite ops may return an argument and not say so (dropout)."""
    import torch

    schema = getattr(target, "_schema", None)
    if schema is None or any(result.alias_info is not None for result in schema.returns):
        return False
    return not torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd")


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
