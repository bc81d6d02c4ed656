"""Target `executorch`: an ExecuTorch program (.pte) whose arithmetic XNNPACK runs on the CPU.

    captured graph ── our layers for coded ops ── rewrites ── partition ── model.pte

Int8 weights keep our codes and scales, with int8 or float activations; int4 groups need int8 activations. Lengths stay
dynamic, memory is planned for the largest. Every entry point is a method; equal weights are stored once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.converters.coded_sites import CodedSite, recapture
from ferrule.converters.decompositions import for_executorch, simplify
from ferrule.converters.executorch_delegation import delegation_rows, look_at
from ferrule.converters.executorch_edits import name_weights
from ferrule.converters.executorch_layers import layer_maker
from ferrule.converters.executorch_partition import collect_reasons, make_partitioner
from ferrule.converters.executorch_rewrite import fix_view_lengths, rewrite
from ferrule.converters.executorch_weights import stored_weights
from ferrule.converters.kernel_layers import calls_kernels
from ferrule.converters.merging_sites import write_out_merging
from ferrule.converters.pte import Pte, read_pte
from ferrule.converters.source_lines import mark_origins, source_line
from ferrule.errors import LoweringError
from ferrule.graph_writes import written_buffers
from ferrule.hush import hush
from ferrule.program import Program
from ferrule.runtime.vendor_ops import executorch_ops

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from ferrule.device_profiles import DeviceProfile
    from ferrule.model import Captured

__all__ = ["lower"]

FILE = "model.pte"
TOOLS = ("executorch", "torchao", "torch")


def lower(
    graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False, kernels: bool = False
) -> Program:
    """Lower every entry point into one .pte file for XNNPACK.

    Raises LoweringError FER-LOW-001 (an op without a kernel), FER-LOW-002 (a codec that XNNPACK lacks; decoded to
    float32 if `expand`, held by our kernel if `kernels` and it is a palette), TargetError FER-TGT-006 where our kernels
    are called and their library was not built.
    """
    notes: dict[str, None] = {}
    graphs = write_out_merging(graphs)
    mark_origins(graphs)
    with _quiet():
        for name, graph in graphs.items():
            _refuse_returned_weights(name, graph)
        programs = {name: _prepare(graph, layer_maker(expand, notes, kernels)) for name, graph in graphs.items()}
        partitioner = make_partitioner()
        with collect_reasons() as reasons:
            edge = _to_edge(programs, partitioner)
        rules = partitioner.target_partitioner_configs
        placements = {name: look_at(edge.exported_program(name).graph_module, rules, reasons) for name in programs}
        path = folder / FILE
        _write(edge, path, programs)
        pte = read_pte(path)
        if any(calls_kernels(program) for program in programs.values()):
            executorch_ops()
        _check_kernels(pte, programs)
    return Program(
        target="executorch",
        main=FILE,
        entry_points={name: graph.signature for name, graph in graphs.items()},
        delegation=delegation_rows(pte, placements),
        weights=stored_weights(pte, graphs),
        notes=tuple(notes),
        tools={name: version(name) for name in TOOLS},
    )


def _refuse_returned_weights(name: str, graph: Captured) -> None:
    """The partitioner gives a weight to a delegate, and then has nothing to return."""
    signature = graph.program.graph_signature
    weights = {spec.arg.name: spec.target for spec in signature.input_specs if spec.target is not None}
    for spec in signature.output_specs:
        if spec.target is None and spec.arg.name in weights:
            raise LoweringError(
                "FER-LOW-001",
                f"executorch: entry point {name!r} returns {weights[spec.arg.name]!r}, a weight, as it is.",
                "Leave it out of what the model returns: it is the same at every call.",
            )


def _prepare(graph: Captured, make: Callable[[CodedSite], nn.Module]) -> ExportedProgram:
    """A graph of our own to rewrite; the caller's stays as it is."""
    program = simplify(recapture(graph, make).program, for_executorch())
    name_weights(program)
    rewrite(program)
    return program


def _to_edge(programs: Mapping[str, ExportedProgram], partitioner: Any) -> Any:
    from executorch.backends.xnnpack._passes.remove_noop_expand_copy_pass import RemoveNoopExpandCopyPass
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    try:
        return to_edge_transform_and_lower(
            dict(programs),
            transform_passes=[RemoveNoopExpandCopyPass(), fix_view_lengths],
            partitioner=[partitioner],
            # The check refuses ops outside of core ATen even where a kernel exists; `_check_kernels` asks for kernels.
            compile_config=EdgeCompileConfig(_check_ir_validity=False),
        )
    except Exception as error:
        raise _explain(error, programs) from error


def _write(edge: Any, path: Path, programs: Mapping[str, ExportedProgram]) -> None:
    from executorch.exir import ExecutorchBackendConfig
    from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass

    # Without this pass the runtime leaves what a state begins with undefined, whatever the model says.
    states = [InitializedMutableBufferPass(_states(programs))]
    try:
        program = edge.to_executorch(ExecutorchBackendConfig(passes=states, extract_delegate_segments=True))
    except Exception as error:
        raise _explain(error, programs) from error
    with path.open("wb") as file:
        program.write_to_file(file)


def _states(programs: Mapping[str, ExportedProgram]) -> list[str]:
    """Names, in the graphs, of the buffers that they write to."""
    names = []
    for program in programs.values():
        written = written_buffers(program)
        names += [spec.arg.name for spec in program.graph_signature.input_specs if spec.target in written]
    return names


def _check_kernels(pte: Pte, programs: Mapping[str, ExportedProgram]) -> None:
    """Refuse a file that calls kernels which the runtime's libraries lack: it would fail only on the device."""
    from executorch.extension.pybindings import portable_lib
    from executorch.kernels import quantized  # noqa: F401  registers its kernels

    known = set(portable_lib._get_operator_names())
    for method in pte.methods:
        for kind, name in method.instructions:
            if kind == "kernel" and name not in known:
                raise LoweringError(
                    "FER-LOW-001",
                    f"ExecuTorch has no kernel for {name}{_place(name, programs)}.",
                    "Replace the op in the model, or build for another target.",
                )


def _explain(error: Exception, programs: Mapping[str, ExportedProgram]) -> LoweringError:
    text = str(error).strip().splitlines()
    first = f"{type(error).__name__}: {text[0] if text else ''}"
    return LoweringError(
        "FER-LOW-001",
        f"ExecuTorch cannot lower the model{_place(str(error), programs)}: {first}",
        "Replace the op in the model, or build for another target.",
    )


def _place(text: str, programs: Mapping[str, ExportedProgram]) -> str:
    """` (line)` of the first op of the graphs that the text names, if any is known."""
    for program in programs.values():
        for node in program.graph.nodes:
            name = str(node.target).removesuffix(".default")
            named = name in text or name.replace(".", "::", 1) in text
            if node.op == "call_function" and named and source_line(node):
                return f" ({name} at {source_line(node)})"
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """No notes of the toolkits about themselves: deprecations, experimental APIs, CUDA libraries that are not there."""
    with warnings.catch_warnings(), hush("torch.export", "root"):
        warnings.simplefilter("ignore")
        yield
