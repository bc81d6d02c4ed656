"""What came out, read back from the package: dtypes, where ops can run, stored weights, and notes for the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from ferrule.codec import Lookup
from ferrule.converters.coreml.checks import exceeds_half
from ferrule.converters.coreml.codecs import half_scale
from ferrule.converters.coreml.constants import Inline, Stored, TensorType
from ferrule.converters.coreml.mil import MilFunction, MilOp, MilProgram, Operand
from ferrule.converters.coreml.rows import is_data
from ferrule.device_profiles import DeviceProfile
from ferrule.errors import LoweringError
from ferrule.program import OpRow, Signature, StoredWeights, TensorSpec

if TYPE_CHECKING:
    from ferrule.converters.coded_sites import CodedSite
    from ferrule.model import Captured

__all__ = ["describe", "flag_notes", "notes_for", "read_weights", "signature_of"]

_DTYPES = {"fp16": "float16", "fp32": "float32", "int32": "int32"}


def signature_of(function: MilFunction, asked: Signature, buckets: tuple[int, ...]) -> Signature:
    """The signature with the dtypes that the package has; booleans, which it lacks, stay and are converted."""
    types = {value.name: value.type for value in function.inputs}
    types |= {value.name: value.type for value in function.outputs}

    def read(spec: TensorSpec) -> TensorSpec:
        if spec.name not in types:
            raise LoweringError(
                "FER-LOW-001",
                f"Core ML cannot call an input or output {spec.name!r}, a word of its own; coremltools renamed it.",
                "Rename it in the model: the parameter of forward, or the key of the dict that it returns.",
            )
        kind = types[spec.name]
        shape = spec.shape if len(spec.shape) == len(kind.shape) else tuple(n or 1 for n in kind.shape)
        narrow = "bool" if spec.dtype == "bool" else _DTYPES.get(kind.dtype, kind.dtype)
        return TensorSpec(spec.name, narrow, shape)

    inputs = tuple(read(spec) for spec in asked.inputs)
    outputs = tuple(read(spec) for spec in asked.outputs)
    return replace(asked, inputs=inputs, outputs=outputs, buckets=buckets)


def describe(
    programs: Iterable[MilProgram], device: DeviceProfile, target: str, sources: Mapping[str, Mapping[str, str]]
) -> tuple[OpRow, ...]:
    """Where each op of the programs can run, constexpr ops included; predicted, as Core ML chooses at load.

    sources: function -> name of a value -> the user's source line. The rules come from
    coremltools' guide "Typed Execution" (the Neural Engine computes in float16 only), Apple's answer
    on ranges of lengths (developer.apple.com/forums/thread/724930), and the device's profile.
    """
    units = "|".join(unit for unit in ("ane", "gpu", "cpu") if unit in device.targets[target].units)
    block = device.targets[target].formats.get("int4-block")
    advice = block.accepted.reason if block else ""
    rows: Counter[tuple[str, str, str, str]] = Counter()
    for function in (f for program in programs for f in program.functions.values()):
        types = {value.name: value.type for value in function.inputs}
        types |= {value.name: value.type for op in function.ops if op.kind != "const" for value in op.outputs}
        for op in function.ops:
            if op.kind != "const":
                known = sources.get(function.name, {})
                # What writes a state makes no value: it belongs to the one that it reads.
                names: list[Operand] = [value.name for value in op.outputs] or [
                    o for os in op.params.values() for o in os
                ]
                source = next((known[name] for name in names if isinstance(name, str) and name in known), "")
                rows[op.kind, *_unit(op, types, units, advice), source] += 1
    return tuple(OpRow(kind, unit, reason, count, source) for (kind, unit, reason, source), count in rows.items())


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
    if op.kind in ("quantize", "dequantize") and set(other) <= {"int8", "uint8"}:
        return units, "Int8 of a range known beforehand; a chip without int8 products computes in float16 between them."
    if other:
        return "cpu|gpu", f"It reads or makes {', '.join(other)}; the Neural Engine computes in float16 only."
    if any(None in kind.shape for kind in touched):
        return "cpu|gpu", "Its length is a range; the Neural Engine is used for the default length only."
    return units, "Float16, fixed shapes; Core ML chooses by device, system and size, and promises nothing."


def read_weights(programs: Iterable[MilProgram]) -> tuple[StoredWeights, ...]:
    """Elements and bytes (codes, palettes, scales) of linear, embedding and other constants, each tensor once."""
    seen: set[object] = set()
    totals = {kind: [0, 0] for kind in ("linear", "embedding", "other")}
    for function in (f for program in programs for f in program.functions.values()):
        makers = {value.name: op for op in function.ops for value in op.outputs}
        scales = _row_scales(function, makers)
        for op in (op for op in function.ops if not is_data(op)):
            for param, operand in ((p, o) for p, operands in op.params.items() for o in operands):
                held = _stored(operand, makers)
                if not held or not isinstance(held[0], Stored) or held[0] in seen:
                    continue
                seen.add(held[0])
                scaled = scales.get(operand) if isinstance(operand, str) else None
                total = totals[scaled or _kind(op, param)]
                total[0] += 0 if scaled else held[0].type.elements - _filling(op, param, held[0], makers)
                total[1] += sum(constant.nbytes for constant in held)
    return tuple(StoredWeights(kind, *total) for kind, total in totals.items() if total[0])


def _stored(operand: Operand, makers: Mapping[str, MilOp], coded: bool = False) -> list[Stored | Inline]:
    """The tensors that a constant operand is made of, the codes or values first.

    A code's palettes and scales count where they are so few that they stand in the program itself.
    """
    if isinstance(operand, Stored):
        return [operand]
    if isinstance(operand, Inline):
        return [operand] if coded and operand.type.shape else []
    if operand not in makers or not is_data(makers[operand]):
        return []
    maker = makers[operand]
    coded = coded or maker.kind != "const"
    order = sorted(maker.params, key=lambda name: (name not in ("val", "data", "indices"), name))
    return [tensor for name in order for o in maker.params[name] for tensor in _stored(o, makers, coded)]


def _row_scales(function: MilFunction, makers: Mapping[str, MilOp]) -> dict[str, str]:
    """Constants that scale the rows of a palette's weight once it is used, and the kind of that weight."""
    found: dict[str, str] = {}
    for op in (op for op in function.ops if op.kind == "mul"):
        product, scales = (makers.get(o) if isinstance(o, str) else None for o in (*op.params["x"], *op.params["y"]))
        if product is None or scales is None or not _reads_palettes(product, makers):
            continue
        if product.kind == "linear" and is_data(scales):
            found[scales.outputs[0].name] = "linear"
        elif product.kind == scales.kind == "gather":
            found |= {name: "embedding" for name in scales.params["x"] if isinstance(name, str)}
    return found


def _reads_palettes(op: MilOp, makers: Mapping[str, MilOp]) -> bool:
    weight = op.params.get({"linear": "weight", "gather": "x"}.get(op.kind, ""), ("",))[0]
    return isinstance(weight, str) and weight in makers and makers[weight].kind == "constexpr_lut_to_dense"


def _kind(op: MilOp, param: str) -> str:
    if (op.kind, param) in {("linear", "weight"), ("matmul", "x"), ("matmul", "y")}:
        return "linear"
    return "embedding" if op.kind.startswith("gather") and param == "x" else "other"


def _filling(op: MilOp, param: str, weight: Stored, makers: Mapping[str, MilOp]) -> int:
    """Zero codes that fill the last group of a linear weight: its input is padded by as many columns."""
    x = op.params.get("x", ("",))[0]
    pad = makers.get(x) if isinstance(x, str) and (op.kind, param) == ("linear", "weight") else None
    while pad is not None and pad.kind in ("quantize", "dequantize"):
        (x,) = pad.params["input"]
        pad = makers.get(x) if isinstance(x, str) else None
    if pad is None or pad.kind != "pad":
        return 0
    widths = pad.params["pad"][0]
    found = makers[widths].params["val"][0] if isinstance(widths, str) else widths
    return 0 if isinstance(found, str) else int(found.decode()[-1]) * (weight.type.shape[0] or 1)


def notes_for(
    graphs: Mapping[str, Captured], signatures: Mapping[str, Signature], device: DeviceProfile
) -> tuple[str, ...]:
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
    notes += [*_palette_notes(sites), *_static_notes(sites, device)]
    if any(exceeds_half(graph.program) for graph in graphs.values()):
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


def _palette_notes(sites: list[CodedSite]) -> list[str]:
    if not any(isinstance(site.codec, Lookup) for site in sites):
        return []
    return [
        "Some Neural Engines have been reported to refuse palettes, or to compute them wrongly "
        "(apple/coremltools 2688 and 2716): check this package on the device."
    ]


def _static_notes(sites: list[CodedSite], device: DeviceProfile) -> list[str]:
    """Who computes static activations in int8, and whether their scales were rounded."""
    scales = [r.scale for site in sites for r in site.ranges or ()]
    if not scales:
        return []
    fast = device.facts.get("int8_compute")
    if fast is None:
        where = f"the profile of {device.title} does not say whether its chip multiplies in int8"
    elif fast.flag():
        where = f"the Neural Engine of {device.title} can multiply in int8 there"
    else:
        where = f"{device.title} multiplies in float16 there, as chips before A17 Pro and M4 do"
    notes = [f"Inputs and outputs of layers with static activations are rounded to int8; {where}."]
    rounded = sum(scale != half_scale(scale) for scale in scales)
    if rounded:
        notes.append(f"{rounded} scales of static activations were rounded to float16, which Core ML keeps them in.")
    return notes


def flag_notes(signatures: Mapping[str, Signature]) -> tuple[str, ...]:
    """That booleans cross the boundary as numbers, if any do."""
    flags = [t.name for s in signatures.values() for t in (*s.inputs, *s.outputs) if t.dtype == "bool"]
    if not flags:
        return ()
    return (f"The package takes and gives numbers, 0 or 1, for {', '.join(flags)}: Core ML has no boolean tensors.",)
