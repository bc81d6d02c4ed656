"""Target `coreml`: captured graphs to one ML Program package, computed in float16, weights held as our codes.

    torch.export graph ── coremltools ──▶ constexpr_blockwise_shift_scale(codes, scales) ─▶ linear, gather

A sequence axis becomes functions of fixed length where its inputs may be padded, because Core ML keeps all but
the default length of a range off the Neural Engine (Apple, developer.apple.com/forums/thread/724930). They
share their weights. Where padding is not allowed, one function takes a range of lengths.

Also the parts that target `executorch-coreml` shares: checks of device and ops, our ops' translations, and
what is read back from a package (weights, delegation).
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
import shutil
import tempfile
import uuid
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.converters.buckets import BUCKETS, bucket_lengths
from ferrule.converters.coreml.constants import Inline, Stored, TensorType
from ferrule.converters.coreml.mil import MilFunction, MilOp, MilProgram, Operand, load
from ferrule.device_profiles import DeviceProfile, check_format, choose_target
from ferrule.errors import DeviceError, LoweringError
from ferrule.program import OpRow, Program, Signature, StoredWeights, TensorSpec, bucket_name

if TYPE_CHECKING:
    from torch import fx, nn
    from torch.export import ExportedProgram

    from ferrule.converters.coded_sites import CodedSite
    from ferrule.model import Captured

__all__ = [
    "bound_constants",
    "check_device",
    "check_graph",
    "describe",
    "explain",
    "fix_package",
    "hide_progress",
    "hold_codecs",
    "lower",
    "notes_for",
    "quiet",
    "read_weights",
    "register_ops",
    "signature_of",
    "static_lengths",
]


HALF_MAX = 65504.0
"""The largest finite float16."""

_NEEDS = {"iOS": (18,), "macOS": (15,)}  # int4 and block scales; older systems have neither
_PACKAGE = "model.mlpackage"
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's, for names that are URLs
_DTYPES = {"fp16": "float16", "fp32": "float32", "int32": "int32"}


def lower(graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False) -> Program:
    """Convert every entry point into one .mlpackage; its functions are the entry points or their buckets.

    A lone entry point without buckets is the function `main`. Integer inputs become int32. Raises DeviceError
    FER-DEV-002 (no Core ML, or a system too old for it), and LoweringError FER-LOW-001 (an op that Core ML
    lacks), FER-LOW-002 (a codec that it cannot hold; `expand` decodes it), FER-LOW-004 (states).
    """
    check_device(device, "coreml", graphs)
    graphs, decoded = hold_codecs(graphs, "coreml", expand)
    buckets = {name: static_lengths(graph.signature) for name, graph in graphs.items()}
    package = folder / _PACKAGE
    with tempfile.TemporaryDirectory() as scratch, quiet():
        register_ops()
        functions: dict[str, tuple[Path, str]] = {}
        for index, (name, graph) in enumerate(graphs.items()):
            part = Path(scratch) / f"{index}.mlpackage"
            functions |= _convert(name, graph, buckets[name], part)
        _join(functions, package)
    fix_package(package)
    program = load(package)
    signatures = {
        name: signature_of(_function_of(name, buckets[name], program), graph.signature, buckets[name])
        for name, graph in graphs.items()
    }
    return Program(
        target="coreml",
        main=_PACKAGE,
        entry_points=signatures,
        delegation=describe([program], device, "coreml"),
        weights=read_weights([program]),
        notes=(*notes_for(graphs, signatures), *decoded, *_flag_notes(signatures)),
        tools={"coremltools": version("coremltools"), "torch": version("torch")},
    )


def check_device(device: DeviceProfile, target: str, graphs: Mapping[str, Captured]) -> None:
    """Refuse a device without Core ML, a system before iOS 18 or macOS 15, or a format that it cannot hold.

    Raises DeviceError FER-DEV-002.
    """
    from ferrule.converters.coded_sites import coded_sites

    choose_target(device, target)
    system, assumed = device.facts["os"].text(), device.facts["os_assumed"].text()
    needed = _NEEDS.get(system, ())
    if tuple(int(part) for part in assumed.split(".")) < needed:
        least = ".".join(map(str, needed))
        raise DeviceError(
            "FER-DEV-002",
            f"{device.title} ('{device.name}') cannot take target '{target}': the package needs {system} "
            f"{least}, and the profile assumes {system} {assumed}.",
            f"Choose a device that runs {system} {least} or later.",
        )
    check_format(device, target, "float16")
    for site in (site for graph in graphs.values() for site in coded_sites(graph.program)):
        if site.codec.bits in (4, 8):
            blocks = "block" if site.codec.group else "channel"
            check_format(device, target, f"int{site.codec.bits}-{blocks}")


def static_lengths(signature: Signature) -> tuple[int, ...]:
    """Lengths of static functions for the one dynamic axis, or () where a range of lengths must do.

    A range is kept where there are several axes, or where a dynamic input may not be padded.
    """
    moving = [spec for spec in signature.inputs if any(isinstance(n, str) for n in spec.shape)]
    if len(signature.dims) != 1 or any(spec.name not in signature.padding for spec in moving):
        return ()
    (dim,) = signature.dims.values()
    return bucket_lengths(dim)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the toolkits' log lines and warnings; exceptions pass."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def hide_progress() -> AbstractContextManager[Any]:
    """Hide progress bars, which have no switch; not for imports, whose log handlers would keep the stream."""
    return redirect_stderr(io.StringIO())


# Translations of our ops ------------------------------------------------------------------------------------


@cache
def register_ops() -> None:
    """Teach coremltools our coded ops (and `alias`, which it lacks), once a process."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op

    @register_torch_op(torch_alias=["alias", "alias_copy"], override=True)
    def ferrule_alias(context: Any, node: Any) -> None:
        context.add(mb.identity(x=_get_inputs(context, node)[0], name=node.name))

    # Three names: of the graph's node, of ExecuTorch's edge node, and what ExecuTorch's partitioner looks up.
    @register_torch_op(torch_alias=["ferrule::coded_linear", "ferrule.coded_linear", "coded_linear"], override=True)
    def ferrule_coded_linear(context: Any, node: Any) -> None:
        x, codes, scales, bias, bits, group, _ = _get_inputs(context, node)
        weight = _weight(codes.val, scales.val, int(bits.val), int(group.val))
        missing = weight.shape[-1] - codes.shape[-1]
        if missing:
            # The last group was filled with zero codes, so the input is filled with as many zeros.
            padding = [0] * (2 * len(x.shape) - 1) + [missing]
            x = mb.pad(x=x, pad=padding, mode="constant", constant_val=0.0)
        options = {} if bias is None else {"bias": bias}
        context.add(mb.linear(x=x, weight=weight, **options, name=node.name))

    @register_torch_op(
        torch_alias=["ferrule::coded_embedding", "ferrule.coded_embedding", "coded_embedding"], override=True
    )
    def ferrule_coded_embedding(context: Any, node: Any) -> None:
        indices, codes, scales, bits, group = _get_inputs(context, node)
        table = _weight(codes.val, scales.val, int(bits.val), int(group.val))
        width = int(codes.shape[-1])
        whole = table.shape[-1] == width
        rows = mb.gather(x=table, indices=indices, axis=0, **({"name": node.name} if whole else {}))
        if not whole:
            rank = len(rows.shape)
            rows = mb.slice_by_index(
                x=rows, begin=[0] * rank, end=[0] * (rank - 1) + [width],
                begin_mask=[True] * rank, end_mask=[True] * (rank - 1) + [False], name=node.name,
            )  # fmt: skip
        context.add(rows)


def _weight(codes: Any, scales: Any, bits: int, group: int) -> Any:
    """The constant of a codec; columns are filled up to whole groups with zero codes."""
    import numpy as np
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    columns = codes.shape[1]
    filled = np.pad(codes, ((0, 0), (0, -columns % group if group else 0)))
    narrow = filled.astype(types.np_int4_dtype) if bits == 4 else filled
    return mb.constexpr_blockwise_shift_scale(data=narrow, scale=scales)


def hold_codecs(
    graphs: Mapping[str, Captured], target: str, expand: bool
) -> tuple[dict[str, Captured], tuple[str, ...]]:
    """Graphs whose codecs Core ML holds, and a note for each that had to be decoded.

    Raises LoweringError FER-LOW-002 for another number of bits than 4 or 8, unless `expand`.
    """
    from ferrule.converters.coded_sites import coded_sites, recapture

    held = dict(graphs)
    notes: dict[str, None] = {}
    for name, graph in graphs.items():
        odd = [site for site in coded_sites(graph.program) if site.codec.bits not in (4, 8)]
        if not odd:
            continue
        found = f"Layer {odd[0].name!r} has {odd[0].codec.bits}-bit affine codes"
        if not expand:
            raise LoweringError(
                "FER-LOW-002",
                f"{found}; target {target!r} holds 4 and 8 bits (constexpr_blockwise_shift_scale).",
                "Use a recipe such as w4g32 or w8, or allow the weights to be decoded to float16.",
            )
        held[name] = recapture(graph, _decoded)
        notes[f"{found}; it and {len(odd) - 1} others were decoded to float16, which saves nothing."] = None
    return held, tuple(notes)


def _decoded(site: CodedSite) -> nn.Module | None:
    """A plain layer with the decoded weight, for codecs that the target lacks."""
    from torch import nn

    from ferrule.codec import decode

    if site.codec.bits in (4, 8):
        return None
    weight = nn.Parameter(decode(site.codec), requires_grad=False)
    if site.kind == "embedding":
        return nn.Embedding.from_pretrained(weight)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=site.bias is not None, device="meta")
    layer.weight = weight
    if site.bias is not None:
        layer.bias = nn.Parameter(site.bias, requires_grad=False)
    return layer


# Conversion -------------------------------------------------------------------------------------------------


def _decompose(program: ExportedProgram) -> ExportedProgram:
    """Core ATen, with attention and linear layers kept whole for coremltools' own translations."""
    import torch

    table = torch.export.default_decompositions()
    for op in [op for op in table if "scaled_dot" in str(op) or "aten.linear" in str(op)]:
        table.pop(op)
    return program.run_decompositions(table)


def _convert(name: str, graph: Captured, buckets: tuple[int, ...], package: Path) -> dict[str, tuple[Path, str]]:
    """Write one entry point; function of the artefact -> (package, function there)."""
    import coremltools as ct

    program = check_graph(name, graph)
    bound_constants(program)
    try:
        with hide_progress():
            model = ct.convert(
                program,
                inputs=_input_types(graph.signature),
                outputs=[_output_type(spec) for spec in graph.signature.outputs],
                minimum_deployment_target=ct.target.iOS18,
                compute_precision=ct.precision.FLOAT16,
                skip_model_load=True,
            )
            if not buckets:
                model.save(str(package))
                return {name: (package, "main")}
            shapes = {bucket_name(name, n): _shapes(graph.signature, n) for n in buckets}
            ct.utils.materialize_dynamic_shape_mlmodel(model, shapes, str(package))
    except Exception as error:
        raise explain(name, error) from error
    return {function: (package, function) for function in shapes}


def _shapes(signature: Signature, length: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs with the one dynamic axis fixed."""
    return {s.name: tuple(length if isinstance(n, str) else n for n in s.shape) for s in signature.inputs}


def check_graph(name: str, graph: Captured) -> ExportedProgram:
    """The decomposed graph, once its names, outputs, buffers and ops are known to have a place in Core ML.

    Raises LoweringError FER-LOW-001, and FER-LOW-004 for a buffer that cannot become a state.
    """
    program = _decompose(graph.program)
    _check_names(name, graph.signature)
    _check_outputs(name, program)
    _check_states(name, program)
    _check_ops(name, program)
    return program


def _check_names(name: str, signature: Signature) -> None:
    names = [name, *(spec.name for spec in (*signature.inputs, *signature.outputs))]
    bad = [n for n in names if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", n)]
    twice = [n for n, count in Counter(names[1:]).items() if count > 1]
    if bad or twice:
        raise LoweringError(
            "FER-LOW-001",
            f"Entry point {name!r} uses {(bad or twice)[0]!r} as a name; Core ML takes letters, digits and "
            "underscores, and each name once among inputs and outputs.",
            "Rename it: `EntryPoint.outputs` gives names to outputs.",
        )


def _check_outputs(name: str, program: ExportedProgram) -> None:
    """Core ML cannot hand an input through, nor one value out under two names."""
    results = list(program.graph_signature.user_outputs)
    odd = [r for r in results if r in program.graph_signature.user_inputs or results.count(r) > 1]
    if odd:
        raise LoweringError(
            "FER-LOW-001",
            f"Entry point {name!r} returns {odd[0]!r} as it came in, or twice; Core ML needs a value of its own "
            "for each output.",
            "Leave it out of what the model returns.",
        )


def _oversized(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) > HALF_MAX


def _makes_floats(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return node.op == "call_function" and hasattr(value, "dtype") and bool(value.dtype.is_floating_point)


def bound_constants(program: ExportedProgram) -> None:
    """Bring numbers in the graph into float16's range, in place.

    A mask made as (1 - m) * -3.4e38 would else become 0 * -inf, which is no number.
    """
    from torch.fx.node import map_aggregate

    def bound(value: Any) -> Any:
        return math.copysign(HALF_MAX, value) if _oversized(value) else value

    for node in filter(_makes_floats, program.graph.nodes):
        node.args = map_aggregate(node.args, bound)
        node.kwargs = map_aggregate(node.kwargs, bound)
    program.graph_module.recompile()


def explain(name: str, error: Exception) -> LoweringError:
    """The toolkit's exception as LoweringError FER-LOW-001, its first line kept."""
    text = str(error).strip()
    first = text.splitlines()[0][:300].rstrip(".") if text else type(error).__name__
    return LoweringError(
        "FER-LOW-001",
        f"Entry point {name!r} cannot be converted to Core ML: {first}.",
        "Rewrite that part of the model with other ops, or choose another target.",
    )


def _check_ops(name: str, program: ExportedProgram) -> None:
    """Name every op for which coremltools has no translation, with its line."""
    from coremltools.converters.mil.frontend.torch import is_torch_fx_node_supported

    missing: dict[str, str] = {}
    for node in program.graph.nodes:
        if node.op == "call_function" and not is_torch_fx_node_supported(node):
            missing.setdefault(str(node.target), _line_of(node))
    if missing:
        found = "; ".join(f"{op}{f' at {line}' if line else ''}" for op, line in missing.items())
        raise LoweringError(
            "FER-LOW-001",
            f"Entry point {name!r} has ops that coremltools {version('coremltools')} lacks: {found}.",
            "Rewrite that part of the model with other ops, or choose another target.",
        )


def _line_of(node: Any) -> str:
    """The user's `file:line` of a graph node: the last frame outside of installed packages."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    own = [frame for frame in frames if "-packages" not in frame[0]] or frames
    return f"{own[-1][0]}:{own[-1][1]}" if own else ""


def _check_states(name: str, program: ExportedProgram) -> None:
    """Refuse mutable buffers that a state, float16 and zero at first, cannot be."""
    for target in program.graph_signature.buffers_to_mutate.values():
        value = program.state_dict.get(target, program.constants.get(target))
        if value is None or not value.is_floating_point() or bool(value.any()):
            raise LoweringError(
                "FER-LOW-004",
                f"Entry point {name!r} changes its buffer {target!r}; Core ML states are float16, zero at first.",
                "Begin with a float buffer of zeros, or pass it as an input and return it as an output.",
            )


def _input_types(signature: Signature) -> list[Any]:
    """Float32 at the boundary, integers and booleans as int32; axes of one name share one range."""
    import coremltools as ct
    import numpy as np

    ranges = {
        dim.name: ct.RangeDim(dim.min, dim.max, default=min(max(BUCKETS[1], dim.min), dim.max))
        for dim in signature.dims.values()
    }
    wide = {"float16": np.float16, "bfloat16": np.float32, "float32": np.float32, "float64": np.float32}
    return [
        ct.TensorType(
            name=spec.name,
            shape=[ranges[n] if isinstance(n, str) else n for n in spec.shape] or [1],
            dtype=wide.get(spec.dtype, np.int32),
        )
        for spec in signature.inputs
    ]


def _output_type(spec: TensorSpec) -> Any:
    import coremltools as ct
    import numpy as np

    floats = {"float32": np.float32, "float64": np.float32, "bfloat16": np.float32, "float16": np.float16}
    return ct.TensorType(name=spec.name, dtype=floats.get(spec.dtype))


def _join(functions: Mapping[str, tuple[Path, str]], package: Path) -> None:
    """Several functions become one package that stores equal weights once."""
    import coremltools as ct

    (first, (alone, source)), *rest = functions.items()
    if not rest and source == "main":
        shutil.copytree(alone, package)
        return
    parts = ct.utils.MultiFunctionDescriptor()
    for name, (path, source) in functions.items():
        parts.add_function(str(path), src_function_name=source, target_function_name=name)
    parts.default_function_name = first
    with hide_progress():
        ct.utils.save_multifunction(parts, str(package))


def fix_package(package: Path) -> None:
    """Make a package depend on its content only: fixed identifiers, no date, ordered maps, no debug file."""
    from coremltools.proto import Model_pb2

    (package / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    manifest = json.loads((package / "Manifest.json").read_text())
    items = manifest["itemInfoEntries"]
    names = {old: str(uuid.uuid5(_NAMESPACE, item["path"])) for old, item in items.items()}
    manifest["itemInfoEntries"] = {names[old]: item for old, item in items.items()}
    manifest["rootModelIdentifier"] = names[manifest["rootModelIdentifier"]]
    (package / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True))
    file = package / "Data" / "com.apple.CoreML" / "model.mlmodel"
    spec = Model_pb2.Model.FromString(file.read_bytes())
    spec.description.metadata.userDefined.pop("com.github.apple.coremltools.conversion_date", None)
    file.write_bytes(spec.SerializeToString(deterministic=True))


# What came out, read back from the package ------------------------------------------------------------------


def _function_of(name: str, buckets: tuple[int, ...], program: MilProgram) -> MilFunction:
    key = bucket_name(name, buckets[0]) if buckets else name
    return program.functions[key if key in program.functions else "main"]


def signature_of(function: MilFunction, asked: Signature, buckets: tuple[int, ...]) -> Signature:
    """The signature with the dtypes that the package has; booleans, which it lacks, stay and are converted."""
    types = {value.name: value.type for value in function.inputs}
    types |= {value.name: value.type for value in function.outputs}

    def read(spec: TensorSpec) -> TensorSpec:
        kind = types[spec.name]
        shape = spec.shape if len(spec.shape) == len(kind.shape) else tuple(n or 1 for n in kind.shape)
        narrow = "bool" if spec.dtype == "bool" else _DTYPES.get(kind.dtype, kind.dtype)
        return TensorSpec(spec.name, narrow, shape)

    inputs = tuple(read(spec) for spec in asked.inputs)
    outputs = tuple(read(spec) for spec in asked.outputs)
    return replace(asked, inputs=inputs, outputs=outputs, buckets=buckets)


def describe(programs: Iterable[MilProgram], device: DeviceProfile, target: str) -> tuple[OpRow, ...]:
    """Where each op of the programs can run, constexpr ops included; predicted, as Core ML chooses at load.

    Sources: coremltools' guide "Typed Execution" (the Neural Engine computes in float16 only), Apple's answer
    on ranges of lengths (developer.apple.com/forums/thread/724930), and the device's profile.
    """
    units = "|".join(unit for unit in ("ane", "gpu", "cpu") if unit in device.targets[target].units)
    block = device.targets[target].formats.get("int4-block")
    advice = block.accepted.reason if block else ""
    rows: Counter[tuple[str, str, str]] = Counter()
    for function in (f for program in programs for f in program.functions.values()):
        types = {value.name: value.type for value in function.inputs}
        types |= {value.name: value.type for op in function.ops if op.kind != "const" for value in op.outputs}
        for op in function.ops:
            if op.kind != "const":
                rows[op.kind, *_unit(op, types, units, advice)] += 1
    return tuple(OpRow(kind, unit, reason, count) for (kind, unit, reason), count in rows.items())


def _unit(op: MilOp, types: Mapping[str, TensorType], units: str, advice: str) -> tuple[str, str]:
    """The units that may run an op, and why."""
    if op.kind.startswith("constexpr_"):
        scales = [o.type.shape for o in op.params.get("scale", ()) if isinstance(o, Inline | Stored)]
        blocks = any(shape[-1] not in (None, 1) for shape in scales if shape)
        reason = "Codes in the file; Core ML decodes them as it loads the model or inside the kernel."
        return units, f"{reason} {advice}".strip() if blocks else reason
    names = [o for operands in op.params.values() for o in operands if isinstance(o, str)]
    touched = [*(types[name] for name in names if name in types), *(value.type for value in op.outputs)]
    other = sorted({kind.dtype for kind in touched} - {"fp16"})
    if other:
        return "cpu|gpu", f"It reads or makes {', '.join(other)}; the Neural Engine computes in float16 only."
    if any(None in kind.shape for kind in touched):
        return "cpu|gpu", "Its length is a range; the Neural Engine is used for the default length only."
    return units, "Float16, fixed shapes; Core ML chooses by device, system and size, and promises nothing."


def read_weights(programs: Iterable[MilProgram]) -> tuple[StoredWeights, ...]:
    """Elements and bytes (codes, scales) of linear, embedding and other constants, each tensor once."""
    seen: set[object] = set()
    totals = {kind: [0, 0] for kind in ("linear", "embedding", "other")}
    for function in (f for program in programs for f in program.functions.values()):
        makers = {value.name: op for op in function.ops for value in op.outputs}
        for op in (op for op in function.ops if not _is_constant(op)):
            for param, operand in ((p, o) for p, operands in op.params.items() for o in operands):
                held = _stored(operand, makers)
                if not held or held[0] in seen:
                    continue
                seen.add(held[0])
                total = totals[_kind(op, param)]
                total[0] += held[0].type.elements - _filling(op, param, held[0], makers)
                total[1] += sum(constant.nbytes for constant in held)
    return tuple(StoredWeights(kind, *total) for kind, total in totals.items() if total[0])


def _is_constant(op: MilOp) -> bool:
    return op.kind == "const" or op.kind.startswith("constexpr_")


def _stored(operand: Operand, makers: Mapping[str, MilOp]) -> list[Stored]:
    """The tensors in the weight file that a constant operand is made of, the codes or values first."""
    if isinstance(operand, Stored):
        return [operand]
    if isinstance(operand, Inline) or operand not in makers or not _is_constant(makers[operand]):
        return []
    params = makers[operand].params
    order = sorted(params, key=lambda name: (name not in ("val", "data"), name))
    return [tensor for name in order for o in params[name] for tensor in _stored(o, makers)]


def _kind(op: MilOp, param: str) -> str:
    if (op.kind, param) in {("linear", "weight"), ("matmul", "x"), ("matmul", "y")}:
        return "linear"
    return "embedding" if op.kind.startswith("gather") and param == "x" else "other"


def _filling(op: MilOp, param: str, weight: Stored, makers: Mapping[str, MilOp]) -> int:
    """Zero codes that fill the last group of a linear weight: its input is padded by as many columns."""
    x = op.params.get("x", ("",))[0]
    pad = makers.get(x) if isinstance(x, str) and (op.kind, param) == ("linear", "weight") else None
    if pad is None or pad.kind != "pad":
        return 0
    widths = pad.params["pad"][0]
    found = makers[widths].params["val"][0] if isinstance(widths, str) else widths
    return 0 if isinstance(found, str) else int(found.decode()[-1]) * (weight.type.shape[0] or 1)


def _flag_notes(signatures: Mapping[str, Signature]) -> tuple[str, ...]:
    flags = [t.name for s in signatures.values() for t in (*s.inputs, *s.outputs) if t.dtype == "bool"]
    if not flags:
        return ()
    return (f"The package takes and gives numbers, 0 or 1, for {', '.join(flags)}: Core ML has no boolean tensors.",)


def notes_for(graphs: Mapping[str, Captured], signatures: Mapping[str, Signature]) -> tuple[str, ...]:
    """What the target changed on the way, one sentence each."""
    from ferrule.coded import ACTIVATION_DYNAMIC
    from ferrule.converters.coded_sites import coded_sites

    notes = ["Computed in float16. Which unit runs an op is predicted: Core ML decides that when it loads."]
    sites = [site for graph in graphs.values() for site in coded_sites(graph.program)]
    if any(site.activation == ACTIVATION_DYNAMIC for site in sites):
        notes.append(
            "Activations stay in float16: Core ML has no int8 activations with ranges found at run time. "
            "The weights are held as the recipe's codes and scales."
        )
    nodes = (node for graph in graphs.values() for node in graph.program.graph.nodes if _makes_floats(node))
    if any(_oversized(value) for node in nodes for value in (*node.args, *node.kwargs.values())):
        notes.append("Numbers beyond float16's range, such as a mask of -3.4e38, are held at 65504 or -65504.")
    for name, signature in signatures.items():
        if signature.buckets:
            lengths = ", ".join(map(str, signature.buckets))
            notes.append(
                f"Entry point {name!r} is held as functions of fixed length ({lengths}) that share weights, "
                "and inputs are padded: of a range of lengths the Neural Engine runs the default only."
            )
        elif signature.dims:
            notes.append(
                f"Entry point {name!r} takes a range of lengths, because its inputs have no padding value: "
                "expect the Neural Engine for the default length only, the GPU or CPU for others."
            )
    return tuple(notes)
