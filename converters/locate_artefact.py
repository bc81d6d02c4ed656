"""What an artefact computes on the way, shown by the very file: each node of the captured graph -> candidate values.

onnx             the file with all of its values as outputs, opened as the engine opens it
litert           the same; XNNPACK runs it
coreml           the reference interpreter, which has every value
executorch-coreml   the same, on the Core ML program inside the .pte
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.program import Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.converters.coreml.origins import Origins

__all__ = ["Shown", "show_coreml", "show_litert", "show_onnx"]

Shown = Mapping[str, Sequence["NDArray[Any]"]]
"""Node -> values in the artefact that bear its name, in the order in which they are computed."""


def show_onnx(path: Path, entry: str, arrays: Mapping[str, NDArray[Any]], signature: Signature) -> Shown:
    """Run `<entry>.onnx` with every value of its main graph among the outputs."""
    import onnx

    from ferrule.converters.onnx_delegation import node_origin
    from ferrule.runtime.engines.onnx import open_engine

    model = onnx.load(path.with_name(f"{entry}.onnx"), load_external_data=False)
    there = {value.name for value in model.graph.output}
    origins = {value: node_origin(node.name) for node in model.graph.node for value in node.output if value}
    # Values of constants alone are no tensors on the way, and some cannot be returned.
    names = [value for value, node in origins.items() if node]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    with TemporaryDirectory(prefix="ferrule-locate-") as folder:
        for other in path.parent.iterdir():
            if other.suffix == ".bin":
                (Path(folder) / other.name).symlink_to(other.resolve())
        file = Path(folder) / f"{entry}.onnx"
        file.write_bytes(model.SerializeToString())
        wide = replace(signature, outputs=tuple(replace(signature.outputs[0], name=name) for name in names))
        engine = open_engine(file, {entry: wide}, 1)
        values = engine.run(entry, arrays)
        engine.close()
    return _group((origins[name], value) for name, value in zip(names, values, strict=True))


def show_litert(
    path: Path, program: str, arrays: Mapping[str, NDArray[Any]], signature: Signature, outputs: Sequence[str]
) -> Shown:
    """Run a signature with every tensor that an op makes among its outputs."""
    from ai_edge_litert import schema_py_generated as schema

    from ferrule.converters.litert_flatbuffer import read_model, write_model
    from ferrule.converters.litert_names import tensor_origin
    from ferrule.runtime.engines.litert import open_engine

    model = read_model(path.read_bytes())
    written = next(s for s in model.signatureDefs if s.signatureKey == program.encode())
    graph = model.subgraphs[written.subgraphIndex]
    there = {entry.tensorIndex for entry in (*written.outputs, *written.inputs)}
    origins: dict[str, str] = {}
    for index in [int(i) for op in graph.operators for i in op.outputs]:
        node = tensor_origin(graph.tensors[index].name.decode(), outputs)
        if not node:
            continue
        entry = next((e for e in written.outputs if e.tensorIndex == index), None)
        if entry is None and index not in there:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = f"ferrule_{index}".encode(), index
            written.outputs.append(entry)
            graph.outputs = np.append(graph.outputs, np.int32(index))
        if entry is not None:
            origins[entry.name.decode()] = node
    with TemporaryDirectory(prefix="ferrule-locate-") as folder:
        file = Path(folder) / "model.tflite"
        write_model(model, file)
        wide = replace(
            signature, outputs=tuple(replace(signature.outputs[0], name=name) for name in origins), buckets=()
        )
        engine = open_engine(file, {program: wide}, 1)
        values = [np.array(value) for value in engine.run(program, arrays)]
        engine.close()
    return _group(zip(origins.values(), values, strict=True))


def show_coreml(
    path: Path,
    program: str,
    arrays: Mapping[str, NDArray[Any]],
    signatures: Mapping[str, Signature],
    origins: Mapping[str, tuple[str, Origins]],
) -> Shown:
    """Interpret the function behind a program; its values are named as in a fresh lowering of the same model."""
    from ferrule.runtime.engines.coreml import open_engine

    engine = open_engine(path, signatures, 1)
    made = engine.trace(program, arrays)
    function = engine.function(program)
    engine.close()
    named = origins[function if function in origins else program][1]
    return _group((named[name], value) for name, value in made.items() if name in named)


def _group(pairs: Iterable[tuple[str, NDArray[Any]]]) -> Shown:
    shown: dict[str, list[NDArray[Any]]] = defaultdict(list)
    for node, value in pairs:
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            shown[node].append(value)
    return shown
