"""LiteRT: captured graphs become one .tflite file with a signature for each entry point, or for each of its buckets.

The toolkit (litert-torch) converts graphs in which every coded op is a mark (litert_sites); then the marks in its file
become native ops that hold our codes and scales (litert_flatbuffer), and the file is read back (litert_contents).
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.converters.buckets import bucket_lengths
from ferrule.converters.coded_sites import recapture
from ferrule.converters.decompositions import for_litert, simplify
from ferrule.converters.litert_contents import delegation_table, signature_dtypes, stored_weights
from ferrule.converters.litert_flatbuffer import place_sites, read_model, rename_signatures, write_model
from ferrule.converters.litert_names import name_tensors, output_nodes
from ferrule.converters.litert_sites import SiteBook, choose_form, register_mark
from ferrule.converters.merging_sites import write_out_merging
from ferrule.converters.source_lines import mark_origins, place
from ferrule.errors import LoweringError
from ferrule.graph_writes import written_buffers
from ferrule.hush import hush
from ferrule.model import Captured
from ferrule.program import Program, Signature, TensorSpec, bucket_name

if TYPE_CHECKING:
    from torch import nn

    from ferrule.device_profiles import DeviceProfile

__all__ = ["lower"]


_FILE = "model.tflite"
_PACKAGES = ("litert-torch", "litert-converter", "ai-edge-litert", "torch")


@dataclass(frozen=True)
class _Piece:
    """One static program of the file: its signature's name, and the graph to convert."""

    name: str
    entry_point: str
    graph: Captured


def lower(graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False) -> Program:
    """Write `model.tflite` into the folder.

    Raises LoweringError: FER-LOW-001 an op that the toolkit lacks, FER-LOW-002 a codec with no native form (see
    litert_sites; with `expand` it is decoded and noted), FER-LOW-003 more than one dynamic axis, FER-LOW-004 a
    module that keeps state.
    """
    book = SiteBook(expand, [], [])
    graphs = write_out_merging(graphs)
    places = mark_origins(graphs)
    with _quiet():
        register_mark()
        pieces = [piece for name, graph in graphs.items() for piece in _pieces(name, graph, book)]
        content = _convert(pieces, graphs)
        model = read_model(content)
        place_sites(model, book.sites)
        names = {p.name: _names(p.graph.signature) for p in pieces}
        rename_signatures(model, names)
        write_model(model, folder / _FILE)
        del model, content
        try:
            entries = {piece.name: piece.entry_point for piece in pieces}
            outputs = {name: output_nodes(graph) for name, graph in graphs.items()}
            rows = delegation_table(folder / _FILE, entries, outputs, places)
        except (ValueError, RuntimeError) as error:
            raise _explain_refusal(error, graphs) from error
    entry_points = {name: _signature(name, graph, folder / _FILE) for name, graph in graphs.items()}
    return Program(
        target="litert",
        main=_FILE,
        entry_points=entry_points,
        delegation=rows,
        weights=stored_weights(folder / _FILE, book.sites),
        notes=tuple(book.notes + _notes(book, entry_points)),
        tools=_tools(),
    )


def _pieces(name: str, graph: Captured, book: SiteBook) -> list[_Piece]:
    dims = list(graph.signature.dims.values())
    if len(dims) > 1:
        raise LoweringError(
            "FER-LOW-003",
            f"litert: entry point {name!r} has {len(dims)} dynamic axes ({', '.join(d.name for d in dims)}); "
            "one is allowed, because the file holds a static program for each length.",
            "Fix all axes but one.",
        )
    _refuse_state(name, graph)
    if not dims:
        return [_Piece(name, name, recapture(graph, book.replacement))]
    return [
        _Piece(bucket_name(name, n), name, recapture(graph, book.replacement, {dims[0].name: n}))
        for n in _lengths(graph)
    ]


def _refuse_state(name: str, graph: Captured) -> None:
    """The toolkit drops writes to buffers without a word, so a module that makes any is refused."""
    written = written_buffers(graph.program)
    if written:
        raise LoweringError(
            "FER-LOW-004",
            f"litert: entry point {name!r} writes to the buffers {written}; a LiteRT program made "
            "from torch keeps no state.",
            "Pass the state as an input and return it as an output.",
        )


def _convert(pieces: Sequence[_Piece], graphs: Mapping[str, Captured]) -> bytes:
    """The toolkit's own file, marks in place of coded ops."""
    import litert_torch

    converter: Any = litert_torch
    for piece in pieces:
        program = simplify(piece.graph.program, for_litert())
        converter = converter.signature(piece.name, _flat(program), program.example_inputs[0])
    try:
        with name_tensors([piece.graph for piece in pieces]):
            content: bytes = converter.convert().model_content()
    except Exception as error:
        raise _explain(error, graphs) from error
    return content


def _flat(program: Any) -> nn.Module:
    """The program as a module that returns a plain tuple, so that outputs are numbered in order."""
    import torch.utils._pytree as pytree
    from torch import nn

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.program = program.module(check_guards=False)
            self.training = False  # an exported module refuses eval()

        def forward(self, *inputs: Any) -> tuple[Any, ...]:
            return tuple(pytree.tree_leaves(self.program(*inputs)))

    return Flat()


def _explain(error: Exception, graphs: Mapping[str, Captured]) -> LoweringError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    first = lines[0].strip()
    if first.endswith(":") and len(lines) > 1:  # MLIR's errors begin with a heading; then follow place and reason
        first = f"{first} {re.sub(r'^error: .*?[)]: ', '', lines[1].strip())}"
    found = re.search(r"aten[.:\w]+|\w+::\w+|(?<=')stablehlo[.]\w+", first)
    op = found.group().removesuffix(".default") if found else ""
    where = (_locate(op, graphs) if op else "") or _locate_name(str(error), graphs)
    return LoweringError(
        "FER-LOW-001",
        f"litert: the toolkit cannot convert {f'op {op!r}' if op else 'the graph'}{where}: {first.rstrip('.')}.",
        "Replace the op in the model by others, or choose another target.",
    )


def _explain_refusal(error: Exception, graphs: Mapping[str, Captured]) -> LoweringError:
    """The toolkit wrote a file that its own runtime does not open."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    found = re.search(r"builtin opcode '(\w+)'|custom op.*?: *(\w+)", str(error))
    op = next((g for g in found.groups() if g), "") if found else ""
    where = _locate(f"aten.{op.removeprefix('STABLEHLO_').lower()}", graphs) if op else ""
    return LoweringError(
        "FER-LOW-001",
        f"litert: the runtime has no {f'op {op!r}' if op else 'kernel for an op'}{where}, which the toolkit makes of "
        f"the model: {lines[0].rstrip('.')}.",
        "Replace the op in the model by others, or choose another target.",
    )


def _locate(op: str, graphs: Mapping[str, Captured]) -> str:
    """Layer and line of the first call of an op."""
    for node in _calls(graphs):
        if str(node.target).startswith(op):
            return place(node)
    return ""


def _locate_name(text: str, graphs: Mapping[str, Captured]) -> str:
    """Op, layer and line of the first node whose name the text quotes."""
    for node in _calls(graphs):
        if f'"{node.name}"' in text:
            return f" ({str(node.target).removesuffix('.default')}{place(node)})"
    return ""


def _calls(graphs: Mapping[str, Captured]) -> list[Any]:
    return [n for graph in graphs.values() for n in graph.program.graph.nodes if n.op == "call_function"]


def _lengths(graph: Captured) -> tuple[int, ...]:
    """Lengths of the one dynamic axis that the file holds programs for.

    The example's is one of them where an input may not be padded: other lengths than those of the file fit no program.
    """
    (dim,) = graph.signature.dims.values()
    lengths = set(bucket_lengths(dim))
    examples = graph.program.example_inputs[0]
    for spec, example in zip(graph.signature.inputs, examples, strict=True):
        if spec.name not in graph.signature.padding:
            lengths.update(int(n) for n, name in zip(example.shape, spec.shape, strict=True) if name == dim.name)
    return tuple(sorted(lengths))


def _names(signature: Signature) -> tuple[list[str], list[str]]:
    return [spec.name for spec in signature.inputs], [spec.name for spec in signature.outputs]


def _signature(name: str, graph: Captured, path: Path) -> Signature:
    """The captured signature with the file's own dtypes (64-bit numbers become 32-bit ones)."""
    signature = graph.signature
    buckets = _lengths(graph) if signature.dims else ()
    dtypes = signature_dtypes(path, bucket_name(name, buckets[0]) if buckets else name)

    def fit(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, dtype=dtypes[spec.name]) for spec in specs)

    return replace(signature, inputs=fit(signature.inputs), outputs=fit(signature.outputs), buckets=buckets)


def _notes(book: SiteBook, entry_points: Mapping[str, Signature]) -> list[str]:
    notes = []
    groups = (site.codec.scales for site in book.sites if site.codec.group)
    if any(not bool((scales == scales.bfloat16().float()).all()) for scales in groups):
        notes.append("XNNPACK rounds the scales of groups to bfloat16 when it packs the weights at load time.")
    if any(choose_form(site) == "dequantize" for site in book.sites):
        notes.append(
            "Weight-only int8 layers are int8 in the file and are dequantized to float32 when the file is loaded: "
            "they save storage, not memory or time."
        )
    for name, signature in entry_points.items():
        for dim in signature.dims.values():
            lengths = list(signature.buckets)
            beyond = f"; longer ones, up to {dim.max}, are not in the file" if lengths[-1] < dim.max else ""
            rigid = [s.name for s in signature.inputs if dim.name in s.shape and s.name not in signature.padding]
            how = f"no other fits, as {rigid[0]!r} has no padding value" if rigid else "inputs are padded to them"
            notes.append(f"{name!r} holds programs for {dim.name} = {lengths}; {how}{beyond}.")
    return notes


def _tools() -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package) for package in _PACKAGES}


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush the toolkit's progress lines and the warnings that say nothing about the model."""
    # Its remark that 64-bit inputs are narrowed goes through the root logger; the Signature says it.
    root = logging.getLogger()

    def ours(record: logging.LogRecord) -> bool:
        return "litert_torch" not in record.pathname

    progress = os.environ.get("LITERT_TORCH_SHOW_PROGRESS")
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    root.addFilter(ours)
    try:
        with hush("jax._src.xla_bridge"), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        root.removeFilter(ours)
        if progress is None:
            del os.environ["LITERT_TORCH_SHOW_PROGRESS"]
        else:
            os.environ["LITERT_TORCH_SHOW_PROGRESS"] = progress
