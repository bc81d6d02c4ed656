"""Target `executorch-coreml`: captured graphs to one .pte whose methods are Core ML delegates, lowered anywhere.

    torch.export graph ── ExecuTorch ──▶ edge graph, all of it one delegate ── coremltools ──▶ .mlpackage
    .pte = methods ─▶ (named data: folder with the .mlpackage and metadata.json, flattened)

Our coded ops travel whole through the edge dialect: coremltools' registry knows them, which is what the
partitioner asks. Several methods share one multifunction package, and so their weights.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ferrule.converters.coreml.checks import bound_constants, check_declared, check_device, check_graph
from ferrule.converters.coreml.codecs import hold_codecs
from ferrule.converters.coreml.lower import static_lengths
from ferrule.converters.coreml.mil import load
from ferrule.converters.coreml.origins import Origins, complete, spread, tell_sources, watch
from ferrule.converters.coreml.package import fix_package
from ferrule.converters.coreml.readback import describe, notes_for, read_weights
from ferrule.converters.coreml.toolkit import explain, hide_progress, quiet
from ferrule.converters.coreml.torch_ops import cast_likes, pool_by_mean, register_ops
from ferrule.converters.merging_sites import write_out_merging
from ferrule.converters.source_lines import mark_origins
from ferrule.device_profiles import DeviceProfile
from ferrule.errors import BundleError
from ferrule.program import Program, Signature, bucket_name

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from ferrule.model import Captured

__all__ = ["CoreMLMethod", "extract_mlpackages", "lower", "lower_traced", "read_methods"]

_FILE = "model.pte"
_BACKEND = "CoreMLBackend"
_REFERENCE = b"CMJR"  # begins a delegate that only names its package and function
_IDENTIFIER = re.compile(rb"(?<=executorch_)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's, for names that are URLs


@dataclass(frozen=True)
class CoreMLMethod:
    """A method of a .pte: its package, the function there, names of inputs and outputs in the method's order.

    An input that nothing reads is not passed on; its name is "".
    """

    package: Path
    function: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def lower(graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False) -> Program:
    """Lower every entry point, or each of its buckets, to a method that is one Core ML delegate.

    Inputs keep the dtypes of the captured graph. Raises DeviceError FER-DEV-002 (no Core ML, or a system too old),
    LoweringError FER-LOW-001 (an op that Core ML lacks), FER-LOW-002 (a codec that it cannot hold; `expand`
    decodes it), FER-LOW-004 (states).
    """
    return lower_traced(graphs, device, folder, expand)[0]


def lower_traced(
    graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False
) -> tuple[Program, dict[str, tuple[str, Origins]]]:
    """`lower`, and for each method its entry point and what the values of its Core ML function were made from."""
    target = "executorch-coreml"
    check_device(device, target, graphs)
    graphs = write_out_merging(graphs)
    places = mark_origins(graphs)
    graphs, decoded = hold_codecs(graphs, target, expand)
    signatures = {
        name: replace(graph.signature, buckets=static_lengths(graph.signature)) for name, graph in graphs.items()
    }
    file = folder / _FILE
    with quiet():
        register_ops()
        methods = _methods(graphs, signatures)
        with watch() as conversions:
            file.write_bytes(_fix_identifiers(_build(methods)))
    traced = _assign(dict(zip(methods, conversions, strict=False)), signatures)
    with TemporaryDirectory() as scratch:
        packages = extract_mlpackages(file, Path(scratch))
        programs = [load(package) for package in sorted(set(packages.values()))]
        check_declared(programs)
        traced = complete(traced, programs)
        delegation = describe(programs, device, target, tell_sources(traced, places))
        weights = read_weights(programs)
    lowered = Program(
        target=target,
        main=_FILE,
        entry_points=signatures,
        delegation=delegation,
        weights=weights,
        notes=(*notes_for(graphs, signatures, device), *decoded, *_sharing_note(packages)),
        tools={name: version(name) for name in ("coremltools", "executorch", "torch")},
    )
    return lowered, traced


def _assign(origins: Mapping[str, Origins], signatures: Mapping[str, Signature]) -> dict[str, tuple[str, Origins]]:
    """Function of a package -> its entry point and origins; each method was converted by itself."""
    functions = {name: (entry, origins.get(name, {})) for name, (entry, _) in spread({}, signatures).items()}
    if "main" in functions:
        functions["main"] = next((entry, found) for name, (entry, found) in functions.items() if name != "main")
    return functions


def _sharing_note(packages: Mapping[str, Path]) -> tuple[str, ...]:
    if len(packages) == 1:
        return ()
    return (
        f"Its {len(packages)} methods share one Core ML package by reference, as ExecuTorch "
        f"{version('executorch')} writes it: an app needs a Core ML runtime of that version or later.",
    )


def _methods(graphs: Mapping[str, Captured], signatures: Mapping[str, Signature]) -> dict[str, ExportedProgram]:
    """Method name -> graph of its own, buckets with their length fixed."""
    from ferrule.converters.coded_sites import recapture

    methods: dict[str, ExportedProgram] = {}
    for name, graph in graphs.items():
        check_graph(name, graph)  # ExecuTorch would name neither the line nor more than one op
        for length in signatures[name].buckets:
            (dim,) = graph.signature.dims
            methods[bucket_name(name, length)] = recapture(graph, lengths={dim: length}).program
        if not signatures[name].buckets:
            methods[name] = recapture(graph).program
    methods = {name: pool_by_mean(program) for name, program in methods.items()}
    for program in methods.values():
        bound_constants(program)
        cast_likes(program)
    return methods


def _build(methods: Mapping[str, ExportedProgram]) -> bytes:
    """The .pte, with random identifiers in it."""
    import coremltools as ct
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

    specs = CoreMLBackend.generate_compile_specs(
        compute_precision=ct.precision.FLOAT16,
        minimum_deployment_target=ct.target.iOS18,
        compute_unit=ct.ComputeUnit.ALL,
    )
    try:
        with _stable_packages(), hide_progress():
            edge = to_edge_transform_and_lower(
                dict(methods),
                partitioner=[CoreMLPartitioner(compile_specs=specs, lower_full_graph=True)],
                # Our ops are not in ATen's core set; the check would refuse them before the partitioner sees them.
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
            )
            data: bytes = edge.to_executorch().buffer
    except Exception as error:
        raise explain(", ".join(methods), error) from error
    return data


@contextmanager
def _stable_packages() -> Iterator[None]:
    """Have ExecuTorch flatten packages by content alone; its own order of files is that of the file system."""
    from executorch.backends.apple.coreml.compiler import coreml_preprocess

    before = coreml_preprocess.executorchcoreml
    coreml_preprocess.executorchcoreml = SimpleNamespace(flatten_directory_contents=lambda path: _flatten(Path(path)))
    try:
        yield
    finally:
        coreml_preprocess.executorchcoreml = before


def _flatten(folder: Path) -> bytes:
    """The folder as ExecuTorch's Core ML runtime reads it: contents end to end, then the tree as reversed JSON.

    Nodes come children first, so that an index always points back; the last one is the root.
    """
    fix_package(folder / "model.mlpackage")
    (folder / "debug_info.json").unlink(missing_ok=True)  # optional, and full of build paths
    data = bytearray()
    nodes: list[dict[str, Any]] = []

    def add(path: Path) -> int:
        children = {child.name: add(child) for child in sorted(path.iterdir())} if path.is_dir() else {}
        content = path.read_bytes() if path.is_file() else b""
        region = {"offset": len(data) if content else 0, "size": len(content)}
        nodes.append({"children": children, "dataRegion": region, "kind": int(path.is_dir()), "name": path.name})
        data.extend(content)
        return len(nodes) - 1

    add(folder)
    data.extend(json.dumps({"nodes": nodes}, separators=(",", ":")).encode()[::-1])
    return bytes(data)


def _fix_identifiers(data: bytes) -> bytes:
    """Random identifiers become ones made from the content; the runtime caches compiled models under them."""
    found = list(dict.fromkeys(_IDENTIFIER.findall(data)))
    for index, old in enumerate(found):
        data = data.replace(old, f"{index:08x}-0000-0000-0000-000000000000".encode())
    content = sha256(data).hexdigest()
    for index in range(len(found)):
        name = str(uuid.uuid5(_NAMESPACE, f"{content}/{index}"))
        data = data.replace(f"{index:08x}-0000-0000-0000-000000000000".encode(), name.encode())
    return data


# Reading back -----------------------------------------------------------------------------------------------


def extract_mlpackages(pte: Path, folder: Path) -> dict[str, Path]:
    """Take the Core ML packages out of a .pte into an existing folder; methods may share one.

    Raises BundleError FER-BUN-021 for a file that is not made of Core ML delegates alone.
    """
    return {name: method.package for name, method in read_methods(pte, folder).items()}


def read_methods(pte: Path, folder: Path) -> dict[str, CoreMLMethod]:
    """Like `extract_mlpackages`, with each method's function and the order of its inputs and outputs."""
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary
    try:
        file = deserialize_pte_binary(pte.read_bytes())
        plans = list(file.program.execution_plan)
    except Exception as error:
        raise _not_coreml(pte, f"it cannot be read ({type(error).__name__})") from error
    unpacked: dict[str, Path] = {}
    methods: dict[str, CoreMLMethod] = {}
    for plan in plans:
        calls = [instruction.instr_args for chain in plan.chains for instruction in chain.instructions]
        if len(calls) != 1 or [delegate.id for delegate in plan.delegates] != [_BACKEND]:
            raise _not_coreml(pte, f"method {plan.name!r} is not one Core ML delegate")
        blob = bytes(file.program.backend_delegate_data[plan.delegates[0].processed.index].data)
        key, function = plan.name, "main"
        if blob.startswith(_REFERENCE):
            reference = json.loads(blob[len(_REFERENCE) :])
            key, function = reference["key"], reference["functionName"]
            blob = file.named_data.buffers[file.named_data.pte_data[key].buffer_index]
        if key not in unpacked:
            unpacked[key] = _unpack(blob, folder / f"{len(unpacked)}")
        methods[plan.name] = _method(plan, calls[0].args, unpacked[key], function)
    return methods


def _unpack(blob: bytes, folder: Path) -> Path:
    """Write a flattened folder out; returns where its package and metadata lie."""
    from executorch.backends.apple.coreml import executorchcoreml

    folder.mkdir()
    if not executorchcoreml.unflatten_directory_contents(blob, str(folder)):
        raise BundleError("FER-BUN-021", "A Core ML delegate is not a readable folder.", "Build the file again.")
    return next(folder.rglob("metadata.json")).parent


def _method(plan: Any, arguments: list[int], folder: Path, function: str) -> CoreMLMethod:
    """The delegate's arguments are its package's inputs, then its outputs; the method has an order of its own."""
    metadata = json.loads((folder / "metadata.json").read_text())
    names = metadata["methods"][function] if "methods" in metadata else metadata
    called = dict(zip(arguments, [*names["inputNames"], *names["outputNames"]], strict=True))
    return CoreMLMethod(
        folder / "model.mlpackage",
        function,
        tuple(called.get(index, "") for index in plan.inputs),
        tuple(called[index] for index in plan.outputs),
    )


def _not_coreml(pte: Path, why: str) -> BundleError:
    return BundleError("FER-BUN-021", f"{pte.name} cannot be opened for Core ML: {why}.", "Build it again.")
