"""What a .tflite file holds, read back from it: bytes of weights, dtypes of signatures, which unit runs which op."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.converters.litert_flatbuffer import op_name, read_model
from ferrule.converters.litert_names import op_origin
from ferrule.converters.source_lines import Places
from ferrule.program import OpRow, StoredWeights

if TYPE_CHECKING:
    from ferrule.converters.coded_sites import CodedSite

__all__ = ["delegation_table", "signature_dtypes", "stored_weights"]

_REASONS = {
    "cpu:xnnpack": "taken by the XNNPACK delegate",
    "cpu:builtin": "XNNPACK has no kernel for the op or its types; LiteRT's own kernel runs it",
}
_SUBGRAPHS_FIELD = 2  # of the table Model: version, operator_codes, subgraphs, …


def _mapped(path: Path) -> Any:
    """The file's tree of objects over mapped memory, so that weights are not read."""
    return read_model(np.memmap(path, mode="r"))


def signature_dtypes(path: Path, name: str) -> dict[str, str]:
    """dtype of each input and output of a signature, by name."""
    model = _mapped(path)
    signature = next(s for s in model.signatureDefs if s.signatureKey == name.encode())
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    entries = [*signature.inputs, *signature.outputs]
    return {entry.name.decode(): _type_name(tensors[entry.tensorIndex]).lower() for entry in entries}


def _type_name(tensor: Any) -> str:
    from ai_edge_litert import schema_py_generated as schema

    return str(next(name for name, value in vars(schema.TensorType).items() if value == tensor.type))


def stored_weights(path: Path, sites: Sequence[CodedSite]) -> tuple[StoredWeights, ...]:
    """Bytes of constants by kind; a buffer that several tensors share counts once, scales count with their codes."""
    elements: Counter[str] = Counter()
    size: Counter[str] = Counter()
    # Padding of a group is stored, but is no element of the model.
    true_sizes = {f"{site.name}.codes".encode(): site.codec.codes.numel() for site in sites}
    model = _mapped(path)
    for tensor, kind, scales in _constants(model):
        elements[kind] += true_sizes.get(tensor.name, int(np.prod(tensor.shape)))
        size[kind] += len(model.buffers[tensor.buffer].data) + scales
    return tuple(StoredWeights(kind, elements[kind], size[kind]) for kind in sorted(elements))


def _constants(model: Any) -> Iterator[tuple[Any, str, int]]:
    """Each constant once: the tensor, its kind, and the bytes of its scales."""
    seen: set[int] = set()
    for graph in model.subgraphs:
        kinds = _kinds(model, graph)
        for index, tensor in enumerate(graph.tensors):
            data = model.buffers[tensor.buffer].data
            if data is None or tensor.buffer in seen or kinds.get(index) == "scales":
                continue
            seen.add(tensor.buffer)
            yield tensor, kinds.get(index, "other"), _scale_bytes(model, graph, tensor)


def _kinds(model: Any, graph: Any) -> dict[int, str]:
    """Tensor index -> linear, embedding, or scales (which count with the tensor that they scale)."""
    kinds: dict[int, str] = {}
    for op in reversed(graph.operators):
        name = op_name(model, op)
        if name == "FULLY_CONNECTED":
            kinds[op.inputs[1]] = "linear"
        elif name == "BATCH_MATMUL":
            kinds.update({index: "linear" for index in op.inputs})
        elif name == "EMBEDDING_LOOKUP":
            kinds[op.inputs[1]] = "embedding"
        elif name == "GATHER" and len(graph.tensors[op.inputs[0]].shape) == 2:
            kinds[op.inputs[0]] = "embedding"
        elif name in ("DEQUANTIZE", "TRANSPOSE") and op.outputs[0] in kinds:
            kinds[op.inputs[0]] = kinds[op.outputs[0]]
    for tensor in graph.tensors:
        blocks = getattr(tensor.quantization, "details", None)
        if blocks is not None:
            kinds[blocks.scales] = "scales"
    return kinds


def _scale_bytes(model: Any, graph: Any, tensor: Any) -> int:
    quantization = tensor.quantization
    if quantization is None:
        return 0
    if quantization.details is not None:
        return len(model.buffers[graph.tensors[quantization.details.scales].buffer].data)
    values = (quantization.scale, quantization.zeroPoint)
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def delegation_table(
    path: Path, entries: Mapping[str, str], outputs: Mapping[str, Sequence[str]], places: Places
) -> tuple[OpRow, ...]:
    """A row for each kind of op, unit and source, as the runtime's XNNPACK delegate divides the signatures here.

    entries: signature -> entry point. outputs: entry point -> nodes that its captured graph returns.
    """
    counts: Counter[tuple[str, str, str]] = Counter()
    model = _mapped(path)
    for index, graph in enumerate(model.subgraphs):
        delegated = _delegated(path, index)
        keys = [s.signatureKey.decode() for s in model.signatureDefs if s.subgraphIndex == index]
        entry = next((entries[key] for key in keys), "")
        readers = {tensor: op for op in reversed(graph.operators) for tensor in op.inputs}
        for i, op in enumerate(graph.operators):
            source = places.get(entry, {}).get(op_origin(graph, op, outputs.get(entry, ()), readers), "")
            counts[op_name(model, op), "cpu:xnnpack" if i in delegated else "cpu:builtin", source] += 1
    return tuple(
        OpRow(op, unit, _REASONS[unit], count, source, "measured")
        for (op, unit, source), count in sorted(counts.items())
    )


def _delegated(path: Path, index: int) -> set[int]:
    """Nodes of subgraph `index` that the default delegate takes when the file is opened here."""
    if index == 0:
        return _delegated_first(path)
    with TemporaryDirectory() as folder:
        view = Path(folder) / "view.tflite"
        copyfile(path, view)
        _put_first(np.memmap(view, mode="r+"), index)
        return _delegated_first(view)


def _put_first(content: Any, index: int) -> None:
    """Exchange subgraphs 0 and `index` in place: the runtime lists the ops of the first one only.

    The vector of subgraphs holds offsets, each relative to its own place.
    """
    root = struct.unpack_from("<I", content)[0]
    table = root - struct.unpack_from("<i", content, root)[0]
    entry = root + struct.unpack_from("<H", content, table + 4 + 2 * _SUBGRAPHS_FIELD)[0]
    vector = entry + struct.unpack_from("<I", content, entry)[0]
    places = (vector + 4, vector + 4 + 4 * index)
    targets = [place + struct.unpack_from("<I", content, place)[0] for place in places]
    for place, target in zip(places, reversed(targets), strict=True):
        struct.pack_into("<I", content, place, target - place)


def _delegated_first(path: Path) -> set[int]:
    """Nodes of the first subgraph that a delegate runs: all that lead from its inputs to its outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    nodes: list[Mapping[str, Any]] = interpreter._get_ops_details()
    producers = {output: node for node in nodes if node["op_name"] != "DELEGATE" for output in node["outputs"].tolist()}
    taken: set[int] = set()
    for node in nodes:
        if node["op_name"] != "DELEGATE":
            continue
        stop = set(node["inputs"].tolist())
        pending = [t for t in node["outputs"].tolist() if t not in stop]
        while pending:
            source = producers.get(pending.pop())
            if source is not None and source["index"] not in taken:
                taken.add(source["index"])
                pending += [t for t in source["inputs"].tolist() if t >= 0 and t not in stop]
    return taken
