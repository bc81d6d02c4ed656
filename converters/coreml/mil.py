"""ML Programs as plain data: what an .mlpackage says, before anything is computed.

The package is read from its protobuf; constants stay in the weight file until they are asked for, and
compressed constants stay codes and scales. Source: the MIL and FeatureTypes messages of Core ML's
specification.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.converters.coreml.constants import (
    DTYPES,
    Array,
    Constant,
    Inline,
    Stored,
    TensorType,
    inline_array,
)
from ferrule.errors import LoweringError

__all__ = ["MilFunction", "MilInput", "MilOp", "MilProgram", "MilValue", "Operand", "load"]

Operand = str | Constant
"""What an op reads: the name of a value, or a constant written in place."""


@dataclass(frozen=True)
class MilValue:
    """A named value and its type."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class MilInput:
    """A function's input.

    `ranges` holds (least, most) for each dimension, most -1 if unbounded; `shapes` a closed list of shapes.
    """

    name: str
    type: TensorType
    ranges: tuple[tuple[int, int], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class MilOp:
    """One operation: its kind, its parameters by name, its outputs in order."""

    kind: str
    name: str
    params: Mapping[str, tuple[Operand, ...]]
    outputs: tuple[MilValue, ...]
    has_blocks: bool = False


@dataclass(frozen=True)
class MilFunction:
    """One function: inputs, states, outputs, operations in the order in which they run."""

    name: str
    opset: str
    inputs: tuple[MilInput, ...]
    states: tuple[MilValue, ...]
    outputs: tuple[MilValue, ...]
    ops: tuple[MilOp, ...]


@dataclass(frozen=True)
class MilProgram:
    """A whole ML Program; `memo` keeps decoded constants and plans, so that each is made once."""

    path: Path
    specification: int
    functions: Mapping[str, MilFunction]
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)


def load(path: Path) -> MilProgram:
    """Read an .mlpackage directory (ML Program, any opset, one or several functions).

    Nothing is folded or decompressed. Raises LoweringError FER-MIL-002 if it is not a readable ML Program.
    """
    root = Path(path)
    model_file = _model_file(root)
    try:
        spec = _messages().Model.FromString(model_file.read_bytes())
    except Exception as error:  # protobuf's DecodeError has no stable import path
        raise _unreadable(root, f"its specification cannot be parsed: {error}") from error
    if spec.WhichOneof("Type") != "mlProgram":
        raise _unreadable(root, f"it holds a model of kind '{spec.WhichOneof('Type')}', not an ML Program")
    features = _features(spec)
    functions = {
        name: _function(name, message, features.get(name, {}), model_file.parent, root)
        for name, message in sorted(spec.mlProgram.functions.items())
    }
    return MilProgram(root, int(spec.specificationVersion), functions)


def _unreadable(root: Path, why: str) -> LoweringError:
    return LoweringError("FER-MIL-002", f"{root} is not a readable .mlpackage: {why}.", "Convert the model again.")


def _messages() -> Any:
    """coremltools' protobuf classes, without importing all of it (that pulls torch and takes seconds)."""
    if "coremltools" in sys.modules:
        return importlib.import_module("coremltools.proto.Model_pb2")
    name = "_ferrule_coreml_messages"
    if name not in sys.modules:
        found = importlib.util.find_spec("coremltools")
        if found is None or found.origin is None:
            raise LoweringError("FER-MIL-002", "coremltools is not installed.", "pip install coremltools.")
        package = types.ModuleType(name)
        package.__path__ = [str(Path(found.origin).parent / "proto")]
        sys.modules[name] = package
    return importlib.import_module(f"{name}.Model_pb2")


def _model_file(root: Path) -> Path:
    try:
        manifest = json.loads((root / "Manifest.json").read_text(encoding="utf-8"))
        entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(root, f"Manifest.json is missing or damaged ({error!r})") from error
    file = (root / "Data" / str(entry)).resolve()
    if not file.is_relative_to(root.resolve()) or not file.is_file():
        raise _unreadable(root, f"its manifest names '{entry}', which is not in it")
    return file


def _features(spec: Any) -> dict[str, dict[str, Any]]:
    """Public input descriptions by function and name: they bound what the program leaves open."""
    described = {f.name: {i.name: i for i in f.input} for f in spec.description.functions}
    return described or {"main": {i.name: i for i in spec.description.input}}


def _function(name: str, message: Any, features: Mapping[str, Any], folder: Path, root: Path) -> MilFunction:
    if message.opset not in message.block_specializations:
        raise _unreadable(root, f"function '{name}' has no block for its opset '{message.opset}'")
    block = message.block_specializations[message.opset]
    inputs, states, known = [], [], {}
    for item in message.inputs:
        if item.type.WhichOneof("type") == "stateType":
            states.append(MilValue(item.name, _type(item.type.stateType.wrappedType)))
        else:
            kind = _type(item.type)
            inputs.append(MilInput(item.name, kind, *_bounds(features.get(item.name), kind)))
            known[item.name] = MilValue(item.name, kind)
    ops = tuple(_op(op, folder, root) for op in block.operations)
    known |= {value.name: value for op in ops for value in op.outputs}
    missing = [o for o in block.outputs if o not in known]
    if missing:
        raise _unreadable(root, f"function '{name}' returns {missing}, which no op makes")
    outputs = tuple(known[o] for o in block.outputs)
    return MilFunction(name, message.opset, tuple(inputs), tuple(states), outputs, ops)


def _bounds(feature: Any, kind: TensorType) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, ...], ...]]:
    """Ranges and enumerated shapes; public and inner rank may differ (a scalar shows as one element)."""
    if feature is None or feature.type.WhichOneof("Type") != "multiArrayType":
        return (), ()
    array = feature.type.multiArrayType
    ranges = tuple((int(r.lowerBound), int(r.upperBound)) for r in array.shapeRange.sizeRanges)
    shapes = tuple(tuple(int(n) for n in s.shape) for s in array.enumeratedShapes.shapes)
    if len(ranges) != len(kind.shape):
        ranges = ()
    return ranges, tuple(s for s in shapes if len(s) == len(kind.shape))


def _op(message: Any, folder: Path, root: Path) -> MilOp:
    attributes = {k: v for k, v in message.attributes.items() if k != "name"}
    params: dict[str, tuple[Operand, ...]] = {k: (_constant(v, folder, root),) for k, v in attributes.items()}
    for key, argument in message.inputs.items():
        params[key] = tuple(_operand(binding, folder, root) for binding in argument.arguments)
    outputs = tuple(MilValue(o.name, _type(o.type)) for o in message.outputs)
    written = message.attributes["name"].immediateValue.tensor.strings.values if "name" in message.attributes else []
    name = written[0] if written else (outputs[0].name if outputs else message.type)
    return MilOp(message.type, name, dict(sorted(params.items())), outputs, bool(message.blocks))


def _operand(binding: Any, folder: Path, root: Path) -> Operand:
    if binding.WhichOneof("binding") == "name":
        return str(binding.name)
    return _constant(binding.value, folder, root)


def _type(message: Any) -> TensorType:
    """Type of a value; lists and dictionaries carry no numbers and are typed by their kind."""
    kind = message.WhichOneof("type")
    if kind != "tensorType":
        return TensorType(str(kind).removesuffix("Type"), ())
    tensor = message.tensorType
    dims: Iterable[Any] = tensor.dimensions
    shape = tuple(int(d.constant.size) if d.WhichOneof("dimension") == "constant" else None for d in dims)
    if int(tensor.dataType) not in DTYPES:
        raise LoweringError(
            "FER-MIL-002",
            f"The program holds values of element type number {tensor.dataType}, which is not known.",
            f"Known are: {', '.join(DTYPES.values())}.",
        )
    return TensorType(DTYPES[int(tensor.dataType)], shape)


def _constant(message: Any, folder: Path, root: Path) -> Constant:
    kind = _type(message.type)
    if message.WhichOneof("value") == "blobFileValue":
        blob = message.blobFileValue
        file = (folder / blob.fileName.removeprefix("@model_path/")).resolve()
        if not file.is_relative_to(root.resolve()):
            raise _unreadable(root, f"a constant lies outside the package ('{blob.fileName}')")
        return Stored(kind, file, int(blob.offset))
    value = message.immediateValue
    if value.WhichOneof("value") == "tensor":
        tensor = value.tensor
        which = tensor.WhichOneof("value")
        held = getattr(tensor, which).values if which else []
        return Inline(kind, _text(held) if kind.dtype == "string" else inline_array(kind, held))
    if value.WhichOneof("value") == "list":
        return Inline(kind, tuple(_constant(v, folder, root).decode() for v in value.list.values))
    return Inline(kind, None)


def _text(held: Any) -> str | Array:
    if len(held) < 2:
        return "".join(str(h) for h in held)
    return np.array([str(h) for h in held], dtype=np.str_)
