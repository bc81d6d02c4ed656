"""Values of a captured graph run node by node, and where an artefact's values part from them.

Rounding is told from faults by a second eager run in which every node's result is disturbed as much as the target's
arithmetic would: a node diverges when it errs far more than it did there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.converters.source_lines import layer_of, source_line

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import fx
    from torch.export import ExportedProgram

__all__ = ["HALF_MAX", "Compared", "Eager", "Statistics", "compare", "find_first", "match", "neighbours", "run_eager"]

HALF_MAX = 65504.0
HALF_NORMAL = 2.0**-14
_MARGIN = 4.0  # times the error of the disturbed run
_SEEDS = (0, 1)


@dataclass(frozen=True)
class Statistics:
    """Range of the finite values (NaN if there is none), and how many are not finite."""

    low: float
    high: float
    nans: int
    infinities: int
    elements: int

    @staticmethod
    def of(array: NDArray[Any]) -> Statistics:
        """Read off an array."""
        values = array.astype(np.float64).ravel()
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (float("nan"), float("nan"))
        return Statistics(low, high, int(np.isnan(values).sum()), int(np.isinf(values).sum()), values.size)


@dataclass(frozen=True)
class Compared:
    """A node's value beside the artefact's.

    error: norm of the difference by the norm of the eager value (for integers: share that differs); allowed: the most
    that rounding explains. held: numbers beyond float16 that the artefact holds at its limit, left out of the error.
    how: `same shape`, or `same values, in another order`.
    """

    node: str
    op: str
    layer: str
    source: str
    error: float
    allowed: float
    cosine: float
    max_abs: float
    held: int
    how: str
    eager: Statistics
    artefact: Statistics

    @property
    def diverges(self) -> bool:
        """Whether the two part here."""
        return not self.error <= self.allowed


@dataclass(frozen=True)
class Eager:
    """Values of every op's result by node, and the relative error that rounding alone gives it."""

    nodes: Mapping[str, fx.Node]
    order: Mapping[str, int]
    values: Mapping[str, NDArray[Any]]
    noise: Mapping[str, float]


def run_eager(program: ExportedProgram, inputs: Sequence[Any], epsilon: float, coarse: Mapping[str, float]) -> Eager:
    """Run a captured graph by torch.fx.Interpreter, plainly and disturbed.

    epsilon: relative rounding of one op. coarse: node -> a larger one, for ops that quantize.
    """
    import torch

    with torch.no_grad():
        values = _interpret(program, inputs, None)
        noise: dict[str, float] = {}
        for seed in _SEEDS:
            torch.manual_seed(seed)
            for name, disturbed in _interpret(program, inputs, (epsilon, coarse)).items():
                noise[name] = max(noise.get(name, 0.0), _error(values[name], disturbed)[0])
    nodes = {node.name: node for node in program.graph.nodes if node.op == "call_function"}
    return Eager(nodes, {name: index for index, name in enumerate(nodes)}, values, noise)


def _interpret(
    program: ExportedProgram, inputs: Sequence[Any], noise: tuple[float, Mapping[str, float]] | None
) -> dict[str, NDArray[Any]]:
    import torch
    from torch import fx

    values: dict[str, NDArray[Any]] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.op != "call_function" or not isinstance(result, torch.Tensor) or result.is_complex():
                return result
            if noise is not None and result.is_floating_point() and result.numel() and not _is_view(n):
                scale = noise[1].get(n.name, 0.0) * float(result.square().mean().sqrt())
                spread = torch.randn_like(result)
                result = result + result * noise[0] * spread.clamp(-2, 2) + (spread * scale if scale else 0.0)
            # A copy: later ops may write to it.
            values[n.name] = (
                result.detach().clone().numpy() if result.dtype != torch.bfloat16 else result.float().numpy()
            )
            return result

    module = program.module(check_guards=False)
    state = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    try:
        Recorder(module).run(*[value.clone() for value in inputs])
    finally:
        for name, buffer in module.named_buffers():  # the graph's own, shared with whoever runs it next
            buffer.copy_(state[name])
    return values


def _is_view(node: fx.Node) -> bool:
    """Whether the op only arranges values, or writes them somewhere: disturbing it would break aliases."""
    name = str(node.target)
    schema = getattr(node.target, "_schema", None)
    aliases = schema is not None and any(a.alias_info is not None for a in (*schema.arguments, *schema.returns))
    return aliases or "getitem" in name or "_assert" in name


def match(node: str, candidates: Sequence[NDArray[Any]], eager: Eager) -> tuple[NDArray[Any], NDArray[Any], str] | None:
    """A node's value and the candidate for it, in one order: the last whose size fits, unless an earlier is right."""
    wanted = eager.values[node]
    best: tuple[float, NDArray[Any], NDArray[Any], str] | None = None
    for found in reversed(candidates):
        if found.size != wanted.size:
            continue
        pair = _align(wanted, found)
        error = _error(pair[0], pair[1])[0]
        if best is None or error < 0.1 * best[0]:
            best = (error, *pair)
    return None if best is None else best[1:]


def _align(wanted: NDArray[Any], found: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], str]:
    """Axes of length one do not matter; another layout is compared as a sorted list of values."""
    if [n for n in wanted.shape if n != 1] == [n for n in found.shape if n != 1]:
        return wanted.ravel(), found.ravel(), "same shape"
    flat = (wanted.ravel(), found.ravel(), "the same values laid out otherwise")
    if _error(flat[0], flat[1])[0] < 1e-3:
        return flat
    # Layouts differ: what is left to compare is which values there are.
    return np.sort(wanted, axis=None), np.sort(found, axis=None), "sorted values, as the layouts differ"


def compare(
    node: str, pair: tuple[NDArray[Any], NDArray[Any], str], eager: Eager, floor: float, half: bool
) -> Compared:
    """Hold an artefact's value against the eager one."""
    wanted, found, how = pair
    error, max_abs, cosine, held = _error(wanted, found, half)
    at = eager.nodes[node]
    return Compared(
        node=node,
        op=str(at.target).removesuffix(".default"),
        layer=layer_of(at),
        source=source_line(at),
        error=error,
        allowed=max(floor, _MARGIN * eager.noise.get(node, 0.0)),
        cosine=cosine,
        max_abs=max_abs,
        held=held,
        how=how,
        eager=Statistics.of(wanted),
        artefact=Statistics.of(found),
    )


def _error(a: NDArray[Any], b: NDArray[Any], half: bool = False) -> tuple[float, float, float, int]:
    """Relative error, largest |difference|, cosine, and numbers held at the limit of their type."""
    exact = a.dtype.kind in "iub"
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    beyond = np.abs(x) > HALF_MAX if half else np.isinf(x)
    held = beyond & (np.sign(x) == np.sign(y)) & (np.abs(y) >= 0.99 * HALF_MAX)
    skip = held | np.isnan(x)  # where the model itself has no number, nothing is asked of the artefact
    x, y = x[~skip], y[~skip]
    if not x.size:
        return 0.0, 0.0, 1.0, int(held.sum())
    if not np.isfinite(y).all() or not np.isfinite(x).all():
        return float("inf"), float("inf"), float("nan"), int(held.sum())
    difference = np.abs(x - y)
    if exact:
        return float((difference > 0).mean()), float(difference.max()), 1.0, int(held.sum())
    norms = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    error = float(np.linalg.norm(difference)) / norms[0] if norms[0] else float(norms[1] > 0)
    cosine = float(x @ y) / (norms[0] * norms[1]) if norms[0] * norms[1] else float(norms[0] == norms[1])
    return error, float(difference.max()), cosine, int(held.sum())


def find_first(rows: Sequence[Compared], eager: Eager, outputs: Sequence[str]) -> Compared | None:
    """The first node that diverges with effect: a value that is wrong while all that is made from it is right was not
    the node's own. Where its inputs were held at float16's limit already, the first of those is to blame.
    """
    known = {row.node: row for row in rows}
    for row in sorted(rows, key=lambda r: eager.order[r.node]):
        if row.diverges and (row.node in outputs or _has_effect(row.node, known, eager)):
            blamed = [r for r in _nearest(row.node, known, eager, lambda r: r.held > 0) if r.held]
            return min([row, *blamed], key=lambda r: eager.order[r.node])
    return None


def _has_effect(node: str, known: Mapping[str, Compared], eager: Eager) -> bool:
    """Whether some compared node that reads it, if only through others, diverges too; or none is there to tell."""
    pending, seen, right = list(eager.nodes[node].users), set(), False
    while pending:
        user = pending.pop()
        if user.name in seen or user.op != "call_function":
            continue
        seen.add(user.name)
        if user.name not in known:
            pending += user.users
        elif known[user.name].diverges or known[user.name].held:
            return True
        else:
            right = True
    return not right


def _nearest(node: str, known: Mapping[str, Compared], eager: Eager, beyond: Any) -> Iterator[Compared]:
    """Compared nodes that a node is made from; the search goes on behind those for which `beyond` is true."""
    pending, seen = list(eager.nodes[node].all_input_nodes), set()
    while pending:
        source = pending.pop()
        if source.name in seen or source.op != "call_function":
            continue
        seen.add(source.name)
        if source.name in known:
            yield known[source.name]
        if source.name not in known or beyond(known[source.name]):
            pending += source.all_input_nodes


def neighbours(node: str, rows: Sequence[Compared], eager: Eager) -> tuple[list[str], list[str]]:
    """Compared nodes right before a node, and those between that the artefact does not show."""
    known = {row.node: row for row in rows}
    before = [row.node for row in _nearest(node, known, eager, lambda row: False)]
    pending, between = list(eager.nodes[node].all_input_nodes), []
    while pending:
        source = pending.pop()
        if source.op == "call_function" and source.name not in known and source.name not in between:
            between.append(source.name)
            pending += source.all_input_nodes
    return sorted(before, key=eager.order.__getitem__), sorted(between, key=eager.order.__getitem__)
