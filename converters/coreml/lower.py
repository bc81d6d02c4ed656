"""Target `coreml`: captured graphs to one ML Program package, computed in float16, weights held as our codes.

    torch.export graph ── coremltools ──▶ constexpr_blockwise_shift_scale(codes, scales) ─▶ linear, gather

A sequence axis becomes functions of fixed length where its inputs may be padded, because Core ML keeps all but
the default length of a range off the Neural Engine (Apple, developer.apple.com/forums/thread/724930). They
share their weights. Where padding is not allowed, one function takes a range of lengths.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ferrule.converters.buckets import bucket_lengths
from ferrule.converters.coreml.checks import bound_constants, check_declared, check_device, check_graph
from ferrule.converters.coreml.codecs import hold_codecs
from ferrule.converters.coreml.mil import MilFunction, MilProgram, load
from ferrule.converters.coreml.origins import Origins, complete, convert, spread, tell_sources
from ferrule.converters.coreml.package import fix_package, join_functions
from ferrule.converters.coreml.readback import describe, flag_notes, notes_for, read_weights, signature_of
from ferrule.converters.coreml.toolkit import explain, hide_progress, input_types, output_type, quiet
from ferrule.converters.coreml.torch_ops import register_ops
from ferrule.converters.merging_sites import write_out_merging
from ferrule.converters.source_lines import mark_origins
from ferrule.device_profiles import DeviceProfile
from ferrule.program import Program, Signature, bucket_name

if TYPE_CHECKING:
    from ferrule.model import Captured

__all__ = ["lower", "lower_traced", "static_lengths"]

_PACKAGE = "model.mlpackage"


def lower(graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False) -> Program:
    """Convert every entry point into one .mlpackage; its functions are the entry points or their buckets.

    A lone entry point without buckets is the function `main`. Integer inputs become int32. Raises DeviceError
    FER-DEV-002 (no Core ML, or a system too old for it), and LoweringError FER-LOW-001 (an op that Core ML
    lacks), FER-LOW-002 (a codec that it cannot hold; `expand` decodes it), FER-LOW-004 (states).
    """
    return lower_traced(graphs, device, folder, expand)[0]


def lower_traced(
    graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False
) -> tuple[Program, dict[str, tuple[str, Origins]]]:
    """`lower`, and for each function its entry point and what its values were made from."""
    check_device(device, "coreml", graphs)
    graphs = write_out_merging(graphs)
    places = mark_origins(graphs)
    graphs, decoded = hold_codecs(graphs, "coreml", expand)
    buckets = {name: static_lengths(graph.signature) for name, graph in graphs.items()}
    package = folder / _PACKAGE
    with tempfile.TemporaryDirectory() as scratch, quiet():
        register_ops()
        functions: dict[str, tuple[Path, str]] = {}
        origins: dict[str, Origins] = {}
        for index, (name, graph) in enumerate(graphs.items()):
            part = Path(scratch) / f"{index}.mlpackage"
            made, origins[name] = _convert(name, graph, buckets[name], part)
            functions |= made
        join_functions(functions, package)
    fix_package(package)
    program = load(package)
    check_declared([program])
    signatures = {
        name: signature_of(_function_of(name, buckets[name], program), graph.signature, buckets[name])
        for name, graph in graphs.items()
    }
    traced = complete(spread(origins, signatures), [program])
    lowered = Program(
        target="coreml",
        main=_PACKAGE,
        entry_points=signatures,
        delegation=describe([program], device, "coreml", tell_sources(traced, places)),
        weights=read_weights([program]),
        notes=(*notes_for(graphs, signatures, device), *decoded, *flag_notes(signatures)),
        tools={"coremltools": version("coremltools"), "torch": version("torch")},
    )
    return lowered, traced


def static_lengths(signature: Signature) -> tuple[int, ...]:
    """Lengths of static functions for the one dynamic axis, or () where a range of lengths must do.

    A range is kept where there are several axes, or where a dynamic input may not be padded.
    """
    moving = [spec for spec in signature.inputs if any(isinstance(n, str) for n in spec.shape)]
    if len(signature.dims) != 1 or any(spec.name not in signature.padding for spec in moving):
        return ()
    (dim,) = signature.dims.values()
    return bucket_lengths(dim)


def _convert(
    name: str, graph: Captured, buckets: tuple[int, ...], package: Path
) -> tuple[dict[str, tuple[Path, str]], Origins]:
    """Write one entry point; function of the artefact -> (package, function there), and the origins of its values."""
    import coremltools as ct

    program = check_graph(name, graph)
    bound_constants(program)
    try:
        with hide_progress():
            model, origins = convert(
                program,
                inputs=input_types(graph.signature),
                outputs=[output_type(spec) for spec in graph.signature.outputs],
                minimum_deployment_target=ct.target.iOS18,
                compute_precision=ct.precision.FLOAT16,
                skip_model_load=True,
            )
            if not buckets:
                model.save(str(package))
                return {name: (package, "main")}, origins
            shapes = {bucket_name(name, n): _shapes(graph.signature, n) for n in buckets}
            ct.utils.materialize_dynamic_shape_mlmodel(model, shapes, str(package))
    except Exception as error:
        raise explain(name, error) from error
    return {function: (package, function) for function in shapes}, origins


def _shapes(signature: Signature, length: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs with the one dynamic axis fixed."""
    return {s.name: tuple(length if isinstance(n, str) else n for n in s.shape) for s in signature.inputs}


def _function_of(name: str, buckets: tuple[int, ...], program: MilProgram) -> MilFunction:
    key = bucket_name(name, buckets[0]) if buckets else name
    return program.functions[key if key in program.functions else "main"]
