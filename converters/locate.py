"""Fault finding: the first op at which an artefact parts from the eager compressed model, with the user's source line.

The eager side is the captured graph, run node by node. The artefact's side is the very file where its engine can show
what lies between (see locate_artefact), and lowered again with probes where it cannot (see locate_probes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.converters.locate_values import (
    HALF_MAX,
    HALF_NORMAL,
    Compared,
    Eager,
    compare,
    find_first,
    match,
    neighbours,
    run_eager,
)
from ferrule.converters.merging_sites import write_out_merging
from ferrule.errors import InputError, LoweringError, ParityError, SourceError
from ferrule.program import Program

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ferrule.bundle import Bundle
    from ferrule.converters.locate_artefact import Shown
    from ferrule.model import Captured, Model
    from ferrule.runtime.session import Fitted

__all__ = ["Divergence", "Examination", "examine", "examine_destination", "locate"]

_HALF = ("coreml", "executorch-coreml")  # they compute in float16 and leave activations in float
_PROBED = ("executorch", "native")  # their runtimes show no value on the way
_EPSILON = {True: 2.0**-11, False: 2.0**-22}  # relative rounding of one op, by whether it is in float16
_COARSE = 5e-3  # of an op that quantizes its inputs, where targets differ in how they do it
_FLOOR = {True: 1e-2, False: 1e-3}  # relative error that is never taken for a fault, by whether anything is coarse
_SAME_MODEL = 0.99


@dataclass(frozen=True)
class Divergence:
    """The first op that diverges. after: compared ops right before it, which agree; between: ops that the artefact does
    not show (merged away), which may be at fault as well. guess: what is certain about the cause, or empty.
    """

    found: Compared
    after: tuple[str, ...]
    between: tuple[str, ...]
    guess: str

    @property
    def node(self) -> str:
        """Name of the captured graph's node."""
        return self.found.node

    @property
    def source(self) -> str:
        """The user's `folder/file.py:line`, or empty."""
        return self.found.source

    @property
    def layer(self) -> str:
        """Path of the innermost module."""
        return self.found.layer


@dataclass(frozen=True)
class Examination:
    """All compared nodes in graph order, the first divergence if any, ops that were not shown, and notes."""

    target: str
    rows: tuple[Compared, ...]
    divergence: Divergence | None
    hidden: tuple[str, ...]
    notes: tuple[str, ...]


def locate(
    bundle: str | Path | Bundle | Program,
    model: str | Model | nn.Module | None = None,
    *,
    device: str = "",
    index: int = 0,
    calibration: str | Path | Sequence[Mapping[str, Tensor]] | None = None,
) -> Divergence | None:
    """The first op that diverges on one input, or None; arguments and errors as in `examine`."""
    return examine(bundle, model, device=device, index=index, calibration=calibration).divergence


def examine(
    bundle: str | Path | Bundle | Program,
    model: str | Model | nn.Module | None = None,
    *,
    device: str = "",
    index: int = 0,
    calibration: str | Path | Sequence[Mapping[str, Tensor]] | None = None,
) -> Examination:
    """Compare what an artefact computes on the way with the eager model, node by node.

    bundle: a bundle, or a Program with its files, which needs `model` (compressed already) and `device`. model: a spec,
    a Model or a module; left out, the one that the manifest names. The bundle's recipe is applied to it unless it is
    compressed already. index: which proof input. Raises SourceError FER-SRC-002 for a model that cannot be found,
    InputError FER-INP-004 for an index that is not there, ParityError FER-PAR-005 for another model than the bundle's.
    """
    from ferrule.bundle import Bundle
    from ferrule.model import capture

    if isinstance(bundle, Program):
        whole, program, place = _given(model), bundle, device
        proofs: Sequence[Mapping[str, Any]] = [{k: v.numpy() for k, v in row.items()} for row in whole.proofs()]
    else:
        opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        program, place, proofs = opened.program, str(opened.manifest["device"]["name"]), opened.proof.inputs
        whole = _remake(opened, model, calibration)
    if not 0 <= index < len(proofs):
        raise InputError("FER-INP-004", f"There is no proof input {index}; there are {len(proofs)}, counted from 0.")
    graphs = capture(whole) if program.target == "native" else write_out_merging(capture(whole))
    return _examine(program, place, whole, graphs, proofs[index])


def examine_destination(
    model: str | Model, destination: str, recipe: str = "fp", *, index: int = 0, calibration: str | None = None
) -> Examination:
    """`examine` what would be built for `DEVICE[:TARGET]`, whether or not it passes its proof, and keep nothing.

    Raises as `ferrule.lower` does.
    """
    from ferrule.flow import parse_destination
    from ferrule.model import capture
    from ferrule.prepare import compress
    from ferrule.recipe import load_recipe
    from ferrule.sources import load_model

    place = parse_destination(destination)
    if place.refusal is not None:
        raise place.refusal
    loaded = load_model(model) if isinstance(model, str) else model
    whole = compress(loaded, load_recipe(recipe), calibration=calibration)
    with TemporaryDirectory(prefix="ferrule-locate-") as folder:
        program = _lowering(place.target, place.device.name)(capture(whole), Path(folder))
        return examine(program, whole, device=place.device.name, index=index)


def _given(model: str | Model | nn.Module | None) -> Model:
    from ferrule.model import Model
    from ferrule.sources import load_model

    if isinstance(model, Model | str):
        return load_model(model) if isinstance(model, str) else model
    raise SourceError("FER-SRC-002", "A Program does not say which model it is of.", "Give the ferrule.Model as well.")


def _remake(bundle: Bundle, model: Any, calibration: Any) -> Model:
    """The compressed model that the bundle was built from; refused if it answers otherwise."""
    from ferrule.model import Model, as_model
    from ferrule.prepare import compress
    from ferrule.proof import answer, likeness
    from ferrule.recipe import Recipe
    from ferrule.sources import load_model

    source = str(bundle.manifest["model"]["source"])
    proof = bundle.proof
    if model is None and source.startswith("module:"):
        raise SourceError(
            "FER-SRC-002",
            f"The bundle was built from a module in memory ({source}), which cannot be made again.",
            "Give it: --model FILE.py:FUNCTION, or ferrule.locate(bundle, model).",
        )
    if model is None or isinstance(model, str):
        model = _load(source if model is None else model, load_model)
    if not isinstance(model, Model):
        model = as_model(model, _examples(proof.inputs[0], bundle), _axes(bundle))
    if not model.history:
        model = compress(model, Recipe.from_json(bundle.manifest["recipe"]), calibration=calibration)
    entry = model.entry_points[model.policy.entry_point]
    row = {name: _tensor(proof.inputs[0][name], value) for name, value in entry.inputs.items()}
    found = answer(entry.module, [row])[0]
    pairs = list(zip(proof.compressed[0].values(), (leaf.numpy() for leaf in found), strict=False))
    fits = len(found) == len(proof.compressed[0]) and all(a.shape == b.shape for a, b in pairs)
    alike = min(likeness(a, b) for a, b in pairs) if fits else 0.0
    if not alike >= _SAME_MODEL:
        raise ParityError(
            "FER-PAR-005",
            f"The model ({model.source}) answers otherwise than the one that the bundle was built from (cosine "
            f"{alike:.4f} on the bundle's first proof input), so there is nothing to compare.",
            "Give the model, weights and calibration data of the build.",
        )
    remade: Model = model
    return remade


def _load(spec: str, load_model: Any) -> Model:
    try:
        loaded: Model = load_model(spec)
    except SourceError as error:
        raise SourceError(error.code, error.message, f"{error.hint} Give the model by --model SPEC.".strip()) from error
    return loaded


def _tensor(array: NDArray[Any], like: Tensor) -> Tensor:
    import torch

    return torch.from_numpy(np.array(array)).to(like.dtype)


def _examples(row: Mapping[str, NDArray[Any]], bundle: Bundle) -> dict[str, Tensor]:
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in row.items()}


def _axes(bundle: Bundle) -> dict[str, dict[int, Any]]:
    """Dynamic axes by input, as the bundle's signature tells them."""
    signature = next(iter(bundle.entry_points.values()))
    return {
        spec.name: {axis: signature.dims[n] for axis, n in enumerate(spec.shape) if isinstance(n, str)}
        for spec in signature.inputs
        if any(isinstance(n, str) for n in spec.shape)
    }


def _examine(
    program: Program, device: str, model: Model, graphs: Mapping[str, Captured], row: Mapping[str, Any]
) -> Examination:
    from ferrule.converters.litert_names import output_nodes
    from ferrule.runtime.session import open_program

    assert program.root is not None
    entry = model.policy.entry_point
    graph = graphs[entry]
    path = program.root / program.main
    with open_program(path, program.target, program.entry_points) as session:
        fitted = session.fit(row, entry)
        results = session.engine.run(fitted.program, fitted.arrays)
    half = program.target in _HALF
    outputs = output_nodes(graph)
    with _as_computed(graph, half):
        coarse = _coarse_nodes(graph)
        eager = run_eager(graph.program, _eager_inputs(graph, fitted), _EPSILON[half], coarse)
    floor = _FLOOR[half or bool(coarse)]

    def judge(node: str, value: NDArray[Any]) -> Compared:
        pair = match(node, [value], eager)
        if pair is None:
            shapes = f"{list(eager.values[node].shape)} and {list(value.shape)}"
            raise LoweringError("FER-LOW-009", f"A probe of {node!r} has another shape than the node: {shapes}.")
        return compare(node, pair, eager, floor, half)

    is_probed = program.target in _PROBED
    if is_probed:
        from ferrule.converters.locate_probes import bisect

        lower = _lowering(program.target, device)
        rows, notes = bisect(graphs, entry, path, fitted.arrays, eager, outputs, lower, judge)
    else:
        shown = _show(program, device, graphs, fitted, outputs)
        rows, notes = _compare_all(shown, eager, floor, half), ()
    # What the artefact returns is known of every target, and is what its user sees.
    final = {n: judge(n, v) for n, v in zip(outputs, results, strict=True) if n in eager.values}
    merged = {**{r.node: r for r in rows}, **final} if not is_probed else {r.node: r for r in rows}
    return _report(program, eager, tuple(merged.values()), outputs, half, notes, final)


def _report(
    program: Program,
    eager: Eager,
    rows: tuple[Compared, ...],
    outputs: Sequence[str],
    half: bool,
    notes: tuple[str, ...],
    final: Mapping[str, Compared],
) -> Examination:
    ordered = tuple(sorted(rows, key=lambda r: eager.order[r.node]))
    first = find_first(ordered, eager, outputs)
    known = {r.node for r in rows}
    hidden = tuple(n for n in eager.order if n in eager.values and n not in known)
    if first is None and any(r.diverges for r in final.values()):
        notes = (*notes, "Shown with its intermediate values the artefact agrees: its runtime's fusions are suspect.")
    if first is None:
        return Examination(program.target, ordered, None, hidden, notes)
    after, between = neighbours(first.node, ordered, eager)
    divergence = Divergence(first, tuple(after), tuple(between), _guess(first, eager, half))
    return Examination(program.target, ordered, divergence, hidden, notes)


def _compare_all(shown: Shown, eager: Eager, floor: float, half: bool) -> list[Compared]:
    pairs = ((node, match(node, values, eager)) for node, values in shown.items() if node in eager.values)
    return [compare(node, pair, eager, floor, half) for node, pair in pairs if pair is not None]


def _show(
    program: Program, device: str, graphs: Mapping[str, Captured], fitted: Fitted, outputs: Sequence[str]
) -> Shown:
    from ferrule.converters import locate_artefact as artefact

    assert program.root is not None
    path = program.root / program.main
    signature = program.entry_points[fitted.entry_point]
    if program.target == "onnx":
        return artefact.show_onnx(path, fitted.entry_point, fitted.arrays, signature)
    if program.target == "litert":
        return artefact.show_litert(path, fitted.program, fitted.arrays, signature, outputs)
    with TemporaryDirectory(prefix="ferrule-locate-") as folder:
        origins = _lower_traced(program.target, device, graphs, Path(folder))
    return artefact.show_coreml(path, fitted.program, fitted.arrays, program.entry_points, origins)


def _lower_traced(target: str, device: str, graphs: Mapping[str, Captured], folder: Path) -> Any:
    """Origins of the values of a Core ML program; `expand` where the build needed it."""
    from ferrule.converters import executorch_coreml
    from ferrule.converters.coreml import lower as coreml
    from ferrule.device_profiles import load

    lower = coreml.lower_traced if target == "coreml" else executorch_coreml.lower_traced
    return lower(graphs, load(device), folder, True)[1]


def _lowering(target: str, device: str) -> Any:
    from ferrule.converters import find_target
    from ferrule.device_profiles import load

    def lower(graphs: Mapping[str, Captured], folder: Path) -> Program:
        made: Program = find_target(target).lower()(graphs, load(device), folder, True)
        return replace(made, root=folder)

    return lower


def _eager_inputs(graph: Captured, fitted: Fitted) -> list[Tensor]:
    examples = graph.program.example_inputs[0]
    names = [spec.name for spec in graph.signature.inputs]
    arrays = [fitted.arrays[name] for name in names]
    return [_tensor(a, e).reshape(e.shape if not e.dim() else a.shape) for a, e in zip(arrays, examples, strict=True)]


@contextmanager
def _as_computed(graph: Captured, half: bool) -> Iterator[None]:
    """Core ML leaves activations in float, whatever the recipe says (a note of the bundle): so does the eager run."""
    from ferrule.coded import ACTIVATION_NONE

    kept = []
    for node in graph.program.graph.nodes if half else ():
        place = _activation_place(node)
        if place is not None:
            kept.append((node, node.args))
            node.args = tuple(ACTIVATION_NONE if i == place else a for i, a in enumerate(node.args))
    graph.program.graph_module.recompile()
    try:
        yield
    finally:
        for node, args in kept:
            node.args = args
        graph.program.graph_module.recompile()


def _activation_place(node: Any) -> int | None:
    """Where a coded linear op says how its inputs are treated."""
    if node.op != "call_function" or "ferrule.coded_linear" not in str(node.target):
        return None
    return [argument.name for argument in node.target._schema.arguments].index("activation")


def _coarse_nodes(graph: Captured) -> dict[str, float]:
    """Ops that quantize their inputs: targets round these in ways of their own, which bundles note."""
    places = ((node, _activation_place(node)) for node in graph.program.graph.nodes)
    return {node.name: _COARSE for node, place in places if place is not None and node.args[place]}


def _guess(row: Compared, eager: Eager, half: bool) -> str:
    """What is certain about the cause; nothing else is said."""
    node = eager.nodes[row.node]
    largest = max(abs(row.eager.low), abs(row.eager.high))
    integers = eager.values[row.node].dtype.kind in "iu"
    numbers = [a for a in (*node.args, *node.kwargs.values()) if isinstance(a, float | int)]
    big = [n for n in numbers if not isinstance(n, bool) and HALF_MAX < abs(n) < float("inf")]
    if half and big:
        return f"The op's number {big[0]:g} is beyond float16 and is held at {HALF_MAX:g}."
    if half and largest > HALF_MAX:
        return f"Overflow: eager values reach {largest:.4g}, and float16 ends at {HALF_MAX:g}."
    if half and 0 < largest < HALF_NORMAL:
        return f"Underflow: eager values are {largest:.3g} at most; below {HALF_NORMAL:.2g} float16 loses digits."
    if half and integers and largest > 2048:
        return "Whole numbers beyond 2048 are not exact in float16."
    if integers and largest > 2**31 - 1:
        return "Integers beyond 32 bits: the target narrows them to int32."
    if row.artefact.nans and not row.eager.nans:
        return f"The artefact makes {row.artefact.nans} NaN where the model makes none."
    if row.artefact.low == row.artefact.high == 0.0 and largest:
        return "The artefact makes nothing but zeros here."
    return ""
