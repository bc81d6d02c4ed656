"""Faults of an artefact whose runtime shows nothing: lowered again with some nodes among the outputs, a few at a time.

Each round probes nodes spread over what is still suspect: the nodes that a wrong value is made from, but for those that
a right one is made from. The weights of the artefact in question are put into every probe, so that damaged ones show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ferrule.errors import FerruleError
from ferrule.model import Captured
from ferrule.program import Program, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.converters.locate_values import Compared, Eager

__all__ = ["Lower", "bisect", "with_probes"]

PROBES = 8  # nodes shown by one lowering

Lower = Callable[[Mapping[str, Captured], Path], Program]


def bisect(
    graphs: Mapping[str, Captured],
    entry: str,
    artefact: Path,
    arrays: Mapping[str, NDArray[Any]],
    eager: Eager,
    outputs: Sequence[str],
    lower: Lower,
    judge: Callable[[str, NDArray[Any]], Compared],
) -> tuple[list[Compared], tuple[str, ...]]:
    """Compared nodes, those around the first fault among them, and notes for the user.

    judge: a node and the artefact's value -> how they compare. outputs: nodes that the entry point returns.
    """
    with TemporaryDirectory(prefix="ferrule-locate-") as folder:
        own = lower(graphs, _new(Path(folder), "own"))
        assert own.root is not None
        patches, notes = _differences(own.root / own.main, artefact)

        def show(nodes: Sequence[str]) -> dict[str, Compared]:
            probed = {**graphs, entry: with_probes(graphs[entry], nodes, arrays)}
            program = lower(probed, _new(Path(folder), f"{len(list(Path(folder).iterdir()))}"))
            assert program.root is not None
            _patch(program.root / program.main, patches)
            values = _run(program, entry, arrays)
            shown = zip((*outputs, *nodes), values, strict=True)
            return {node: judge(node, value) for node, value in shown if node in eager.values}

        rows = show(_spread([n for n in eager.order if n in eager.values and n not in outputs], PROBES))
        while True:
            suspects = _suspects(rows, eager)
            if not suspects:
                return list(rows.values()), notes
            try:
                rows |= show(_spread(suspects, PROBES))
            except FerruleError as error:
                return list(rows.values()), (
                    *notes,
                    f"A probe could not be lowered, so nothing nearer is known: {error}",
                )


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _spread(nodes: Sequence[str], count: int) -> list[str]:
    """At most `count` of them, evenly."""
    if len(nodes) <= count:
        return list(nodes)
    return [nodes[(index + 1) * len(nodes) // (count + 1)] for index in range(count)]


def _suspects(rows: Mapping[str, Compared], eager: Eager) -> list[str]:
    """Nodes yet unseen that the first wrong value is made from, but for those behind a right value."""
    wrong = [name for name, row in rows.items() if row.diverges]
    if not wrong:
        return []
    first = min(wrong, key=eager.order.__getitem__)
    cleared = _ancestors([name for name, row in rows.items() if not row.diverges], eager)
    behind = _ancestors([first], eager) - cleared - set(rows)
    return sorted((n for n in behind if n in eager.values), key=eager.order.__getitem__)


def _ancestors(names: Sequence[str], eager: Eager) -> set[str]:
    pending, seen = [eager.nodes[name] for name in names], set()
    while pending:
        for source in pending.pop().all_input_nodes:
            if source.op == "call_function" and source.name not in seen:
                seen.add(source.name)
                pending.append(source)
    return seen


def with_probes(graph: Captured, nodes: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> Captured:
    """The graph captured again with some nodes' values as further outputs, named after them."""
    import torch
    import torch.utils._pytree as pytree

    module = graph.program.module(check_guards=False)
    there = {node.name: node for node in module.graph.nodes}
    output = there["output"]
    leaves = [*pytree.tree_leaves(output.args[0]), *(there[name] for name in nodes)]
    output.args = (tuple(leaves),)
    codegen = module.graph._codegen
    codegen.pytree_info = codegen.pytree_info._replace(out_spec=pytree.tree_structure(tuple(leaves)))
    module.recompile()
    examples = dict(zip((s.name for s in graph.signature.inputs), graph.program.example_inputs[0], strict=True))
    arguments = tuple(torch.from_numpy(arrays[name].copy()).to(example.dtype) for name, example in examples.items())
    dims = {n: torch.export.Dim(n, min=d.min, max=d.max) for n, d in graph.signature.dims.items()}
    shapes = tuple({axis: dims[n] for axis, n in enumerate(spec.shape) if n in dims} for spec in graph.signature.inputs)
    with torch.no_grad():
        program = torch.export.export(module, arguments, dynamic_shapes=shapes if dims else None)
    specs = tuple(TensorSpec(f"probe_{name}", _dtype(there[name]), _shape(there[name])) for name in nodes)
    return Captured(program, replace(graph.signature, outputs=(*graph.signature.outputs, *specs)))


def _dtype(node: Any) -> str:
    return str(node.meta["val"].dtype).removeprefix("torch.")


def _shape(node: Any) -> tuple[int | str, ...]:
    return tuple(n if isinstance(n, int) else str(n) for n in node.meta["val"].shape)


def _run(program: Program, entry: str, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    from ferrule.runtime.session import open_program

    assert program.root is not None
    with open_program(program.root / program.main, program.target, program.entry_points) as session:
        return session.engine.run(entry, arrays)


@dataclass(frozen=True)
class _Patches:
    """Digest of bytes in a fresh file -> the bytes that the artefact has in their place."""

    found: Mapping[str, bytes]


def _differences(fresh: Path, artefact: Path) -> tuple[_Patches, tuple[str, ...]]:
    """Where the artefact's weights differ from a fresh lowering of the same model."""
    if fresh.read_bytes() == artefact.read_bytes():
        return _Patches({}), ()
    # A native program has a checksum of each array: one that opens is as it was written.
    ours, theirs = (dict(_weights(p)) if p.suffix == ".pte" else {} for p in (fresh, artefact))
    if not ours or set(ours) != set(theirs) or any(len(ours[key]) != len(theirs[key]) for key in ours):
        return _Patches({}), (
            "The file is not laid out as this version of the toolkits writes it: what was looked into is a fresh "
            "lowering, not the file itself.",
        )
    found = {_digest(ours[key]): theirs[key] for key in ours if ours[key] != theirs[key]}
    if found:
        return _Patches(found), (f"The file's weights differ from the model's in {len(found)} of {len(ours)} places.",)
    return _Patches({}), ("The file differs from a fresh lowering outside of its weights.",)


def _weights(path: Path) -> Iterator[tuple[str, bytes]]:
    from ferrule.converters.pte import read_bytes, read_pte

    pte = read_pte(path)
    for key, segment in pte.named.items():
        yield key, read_bytes(pte, segment)
    for index, constant in pte.constants.items():
        yield f"constant {index}", read_bytes(pte, constant.segment)


def _patch(path: Path, patches: _Patches) -> None:
    """Put the artefact's bytes into a probe wherever it holds what they stand for."""
    from ferrule.converters.pte import read_bytes, read_pte

    if not patches.found:
        return
    pte = read_pte(path)
    places = [*pte.named.values(), *(constant.segment for constant in pte.constants.values())]
    changed = [(s, patches.found[d]) for s in places if (d := _digest(read_bytes(pte, s))) in patches.found]
    with path.open("r+b") as file:
        for segment, data in changed:
            file.seek(segment.offset)
            file.write(data)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()
