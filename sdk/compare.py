"""The lines by which two rows of builds differ: what was asked for, size, calls, ops, parity, times, notes, tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ferrule.program import Signature, TensorSpec
from ferrule.report.data import Built, Row
from ferrule.report.figures import Latency

__all__ = ["Line", "Value", "compare_rows"]

Value = str | int | float | None


@dataclass(frozen=True)
class Line:
    """One thing of both sides; None where a side has no such thing.

    unit: `bytes`, `ops`, `elements`, `ms`, `MB`, `%`, or empty for texts and bare numbers. better: -1 where less is
    better, 1 where more is, 0 where neither. decides: whether a change makes the two differ: figures that were measured
    beside the bundles never do, since two measurements of one bundle are not alike.
    """

    section: str
    name: str
    a: Value
    b: Value
    unit: str = ""
    better: int = 0
    decides: bool = True

    @property
    def changed(self) -> bool:
        """Whether the two sides are not the same."""
        return self.a != self.b


def compare_rows(a: Row, b: Row) -> tuple[Line, ...]:
    """All lines of two rows, equal ones included; both rows are built, refused or failed."""
    lines = [Line("target", "device", a.device, b.device), Line("target", "target", a.target, b.target)]
    lines += [Line("target", "recipe", a.recipe, b.recipe), Line("target", "status", a.status, b.status)]
    if not (a.built and b.built):
        return (*lines, Line("target", "code", a.code, b.code), Line("target", "reason", a.reason, b.reason))
    lines += [*_recipes(a.built, b.built), *_sizes(a.built, b.built), *_calls(a.built, b.built)]
    lines += [*_ops(a.built, b.built), *_parities(a.built, b.built)]
    if a.accuracy is not None or b.accuracy is not None:
        shares = [None if row.accuracy is None else round(100 * row.accuracy, 4) for row in (a, b)]
        lines.append(_line("accuracy", "task accuracy", shares, "%", 1, decides=False))
    lines += _latencies(a.latency, b.latency)
    notes = dict.fromkeys((*a.notes, *b.notes))
    lines += [Line("notes", "note", n if n in a.notes else None, n if n in b.notes else None) for n in notes]
    return (*lines, *_tools(a.built, b.built), *_files(a.built, b.built))


def _recipes(a: Built, b: Built) -> list[Line]:
    steps = ["; ".join(built.steps) or "none" for built in (a, b)]
    return [
        Line("target", "model", a.source, b.source),
        _line("target", "techniques", steps),
        Line("target", "cosine must reach", a.min_cosine, b.min_cosine),
    ]


def _sizes(a: Built, b: Built) -> list[Line]:
    lines = [Line("size", "whole artefact", a.size_bytes, b.size_bytes, "bytes", -1)]
    stored = [{w.kind: w for w in built.program.weights} for built in (a, b)]
    for kind in dict.fromkeys((*stored[0], *stored[1])):
        found = [side.get(kind) for side in stored]
        lines.append(_line("size", f"{kind} weights", [w.bytes if w else None for w in found], "bytes", -1))
        lines.append(_line("size", f"{kind} weights, elements", [w.elements if w else None for w in found], "elements"))
    rest = [built.size_bytes - sum(w.bytes for w in built.program.weights) for built in (a, b)]
    return [*lines, _line("size", "graph and metadata", rest, "bytes", -1)]


def _calls(a: Built, b: Built) -> Iterable[Line]:
    return _pair("entry points", [dict(_signatures(built)) for built in (a, b)])


def _signatures(built: Built) -> Iterable[tuple[str, str]]:
    """Each tensor, range, padding value and list of lengths of each entry point, as name and text."""
    for entry, found in built.program.entry_points.items():
        for role, specs in (("input", found.inputs), ("output", found.outputs)):
            for place, spec in enumerate(specs):
                yield f"{entry} {role} {place + 1}", _tensor(spec, found)
        for dim in found.dims.values():
            yield f"{entry} axis {dim.name}", f"{dim.min} to {dim.max}"
        if found.buckets:
            yield f"{entry} lengths", ", ".join(map(str, found.buckets))


def _tensor(spec: TensorSpec, signature: Signature) -> str:
    shape = " × ".join(map(str, spec.shape)) or "scalar"
    padding = signature.padding.get(spec.name)
    return f"{spec.name} {spec.dtype} {shape}" + ("" if padding is None else f", padded with {padding:g}")


def _ops(a: Built, b: Built) -> list[Line]:
    units, ops = [Counter[str](), Counter[str]()], [Counter[str](), Counter[str]()]
    for side, built in enumerate((a, b)):
        for op in built.program.delegation:
            units[side][op.unit] += op.count
            ops[side][f"{op.op} on {op.unit}"] += op.count
    return [*_pair("units", units, unit="ops"), *_pair("ops", ops, unit="ops")]


def _parities(a: Built, b: Built) -> list[Line]:
    fields = [("cosine", "cosine, lowest", 1), ("cosine_mean", "cosine, mean", 1), ("max_abs", "max |error|", -1)]
    fields += [("fidelity", "fidelity", 1), ("inputs", "inputs", 0), ("source", "source", 0), ("engine", "engine", 0)]
    sides = (a.program.parity, b.program.parity)
    return [
        _line("parity", label, [getattr(side, name) if side else None for side in sides], "", better)
        for name, label, better in fields
        if any(sides)
    ]


def _latencies(a: Latency | None, b: Latency | None) -> list[Line]:
    """Times, load and memory of the host; empty where neither side was measured. They never decide."""
    fields = [(name, f"{name} of one run", "ms") for name in ("p10", "p50", "p90", "p99")]
    fields += [("load_ms", "load", "ms"), ("peak_rss_mb", "peak memory", "MB")]
    fields += [(name, name, "") for name in ("engine", "threads", "length", "runs")]
    lines = []
    for name, label, unit in fields:
        sides = [getattr(side, name) if side else None for side in (a, b)]
        if any(side is not None for side in sides):
            lines.append(_line("host latency", label, sides, unit, -1 if unit else 0, decides=False))
    return lines


def _tools(a: Built, b: Built) -> list[Line]:
    versions = [{"ferrule": built.ferrule, **built.program.tools} for built in (a, b)]
    return _pair("tools", versions)


def _files(a: Built, b: Built) -> list[Line]:
    sides = [{n: f"{size} bytes, sha256 {digest[:12]}…" for n, (digest, size) in x.files.items()} for x in (a, b)]
    return _pair("files", sides)


def _line(
    section: str, name: str, sides: Sequence[Value], unit: str = "", better: int = 0, decides: bool = True
) -> Line:
    a, b = sides
    return Line(section, name, a, b, unit, better, decides)


def _pair(section: str, sides: Sequence[Mapping[str, Value]], unit: str = "") -> list[Line]:
    """A line for each name of either side; a side that lacks it has None."""
    a, b = sides
    return [Line(section, name, a.get(name), b.get(name), unit) for name in sorted({*a, *b})]
