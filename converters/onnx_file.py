"""ONNX files, written a tensor at a time, and what lies in them.

forward.onnx                                one entry point, with its weights
prefill.onnx, decode.onnx, weights.bin      several share theirs, each tensor stored once
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ferrule.program import StoredWeights

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import GraphProto, TensorProto

__all__ = ["WEIGHTS", "SharedWeights", "needs_own_file", "stored_weights", "write_model"]

WEIGHTS = "weights.bin"

_BULKY = 1024  # bytes; smaller tensors always stay in the graph
_ALIGNMENT = 64
_LIMIT = 2**31 - 2**24  # a protobuf message ends at 2 GiB; the rest is room for the graph


@dataclass
class SharedWeights:
    """The file that several models keep their weights in: digest of a tensor's bytes -> where they lie."""

    path: Path
    places: dict[str, int] = field(default_factory=dict)

    def place(self, data: bytes) -> int:
        """Offset of the bytes, appended unless they are there already."""
        digest = sha256(data).hexdigest()
        if digest not in self.places:
            with self.path.open("ab") as file:
                file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                self.places[digest] = file.tell()
                file.write(data)
        return self.places[digest]


def needs_own_file(model: ir.Model) -> bool:
    """Whether the weights are too large to stand in the model's own file."""
    tensors = (v.const_value for v in model.graph.initializers.values())
    return sum(int(t.nbytes) for t in tensors if t is not None) > _LIMIT


def write_model(model: ir.Model, path: Path, shared: SharedWeights | None) -> None:
    """Write the model; its bulky tensors leave it, one at a time in memory, for the file or for `shared`.

    The bytes are those that protobuf itself would write, with the bulky tensors last in the graph.
    """
    import onnx_ir.serde as serde

    initializers = model.graph.initializers
    names = [n for n, v in initializers.items() if v.const_value is not None and v.const_value.nbytes >= _BULKY]
    bulky = {name: initializers.pop(name).const_value for name in names}
    proto: Any = serde.serialize_model(model)
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    stubs = {name: _stub(name, tensor, shared) for name, tensor in bulky.items()}
    held = {name: tensor for name, tensor in bulky.items() if shared is None}
    sizes = {name: len(stub) + _raw_size(held.get(name)) for name, stub in stubs.items()}
    length = len(graph) + sum(len(_key(5, size)) + size for size in sizes.values())
    with path.open("wb") as file:
        file.write(proto.SerializeToString(deterministic=True))
        file.write(_key(7, length) + graph)  # ModelProto.graph
        for name, stub in stubs.items():
            file.write(_key(5, sizes[name]) + stub)  # GraphProto.initializer
            _write_raw(file, held.get(name))


def _stub(name: str, tensor: Any, shared: SharedWeights | None) -> bytes:
    """The tensor's protobuf without its data, or with the place of its data in the shared file."""
    from onnx import TensorProto

    proto: Any = TensorProto(name=name, dims=tuple(tensor.shape), data_type=tensor.dtype.value)
    if shared is not None:
        data = tensor.tobytes()
        entries = {"location": shared.path.name, "offset": shared.place(data), "length": len(data)}
        proto.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            proto.external_data.add(key=key, value=str(value))
    stub: bytes = proto.SerializeToString(deterministic=True)
    return stub


def _raw_size(tensor: Any) -> int:
    return 0 if tensor is None else len(_key(9, tensor.nbytes)) + int(tensor.nbytes)


def _write_raw(file: BinaryIO, tensor: Any) -> None:
    if tensor is not None:
        file.write(_key(9, tensor.nbytes))  # TensorProto.raw_data
        file.write(tensor.tobytes())


def _key(number: int, length: int) -> bytes:
    """Head of a protobuf field of bytes: its number with wire type 2, then the length as a varint."""
    head = bytearray([number << 3 | 2])
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length])


@dataclass(frozen=True)
class _Stored:
    kind: str
    elements: int
    bytes: int


def stored_weights(paths: Iterable[Path]) -> tuple[StoredWeights, ...]:
    """Bytes of each kind of weight, read back from the files; a tensor that several share counts once."""
    import onnx

    found: dict[tuple[str, str], _Stored] = {}
    for path in paths:
        graph = onnx.load(path, load_external_data=False).graph
        for key, stored in _classify(graph, path.name):
            # What one file calls a weight may be no more than a constant in another.
            if key not in found or found[key].kind == "other":
                found[key] = stored
    rows = []
    for kind in ("linear", "embedding", "other"):
        of_kind = [s for s in found.values() if s.kind == kind]
        if of_kind:
            rows.append(StoredWeights(kind, sum(s.elements for s in of_kind), sum(s.bytes for s in of_kind)))
    return tuple(rows)


def _classify(graph: GraphProto, file: str) -> Iterator[tuple[tuple[str, str], _Stored]]:
    tensors = {t.name: t for t in graph.initializer}
    uses = dict(_uses(graph, tensors))
    for name, tensor in tensors.items():
        external = {entry.key: entry.value for entry in tensor.external_data}
        size = int(external["length"]) if external else len(tensor.raw_data)
        key = (external["location"], external["offset"]) if external else (file, name)
        kind, elements = uses.get(name, ("other", _count(tensor)))
        yield key, _Stored(kind, elements, size)


def _uses(graph: GraphProto, tensors: dict[str, TensorProto]) -> Iterator[tuple[str, tuple[str, int]]]:
    """Initializer -> its kind, and the weights that it stands for (scales and sums stand for none)."""
    aliases = {n.output[0]: n.input[0] for n in graph.node if n.op_type in ("Transpose", "Identity", "Cast")}
    for node in graph.node:
        names = [aliases.get(name, name) for name in node.input]
        if node.op_type in ("MatMulNBits", "MatMulIntegerToFloat", "QGemm", "GatherBlockQuantized", "lookup_linear"):
            yield from _coded_uses(node, names, tensors)
        elif node.op_type in ("MatMul", "Gemm"):
            for name in names[:2]:
                if name in tensors and len(tensors[name].dims) == 2 and not name.endswith(".sums"):
                    yield name, ("linear", _count(tensors[name]))
        elif node.op_type == "Gather" and names[0] in tensors and len(tensors[names[0]].dims) == 2:
            yield names[0], ("embedding", _count(tensors[names[0]]))


def _coded_uses(node: Any, names: list[str], tensors: dict[str, TensorProto]) -> Iterator[tuple[str, tuple[str, int]]]:
    attributes = {a.name: a.i for a in node.attribute}
    kind = "embedding" if node.op_type == "GatherBlockQuantized" else "linear"
    codes = names[{"GatherBlockQuantized": 0, "QGemm": 3}.get(node.op_type, 1)]
    elements = _count(tensors[codes])
    if node.op_type == "MatMulNBits":
        elements = attributes["N"] * attributes["K"]
    elif "bits" in attributes:
        elements = elements * 8 // attributes["bits"]
    yield codes, (kind, elements)
    owner = codes.removesuffix("codes")
    for part in ("scales", "sums", "unit", "table"):
        if owner + part in tensors:
            yield owner + part, (kind, 0)


def _count(tensor: TensorProto) -> int:
    elements = 1
    for n in tensor.dims:
        elements *= n
    return elements
