"""Difference: two bundles, or two build folders target by target, compared in everything that a user could notice."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from ferrule.compare import Line, compare_rows
from ferrule.errors import BundleError, UsageError
from ferrule.report.data import ReportData, Row, collect, read_bundle
from ferrule.report.figures import Latency, read_latency

__all__ = ["Difference", "Pair", "diff"]

TURNS = "abba"  # the order of a round: a drift of the machine's speed falls on both alike
ROUNDS = 2


@dataclass(frozen=True)
class Pair:
    """A target of both sides, or of one where the other row is None; lines: all, equal ones included."""

    name: str
    a: Row | None
    b: Row | None
    lines: tuple[Line, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both are there and nothing that decides has changed."""
        return bool(self.a and self.b) and not any(line.changed and line.decides for line in self.lines)


@dataclass(frozen=True)
class Difference:
    """What `diff` found: the two paths as given and the pairs of targets."""

    a: str
    b: str
    pairs: tuple[Pair, ...]

    @property
    def same(self) -> bool:
        """Whether all pairs are the same."""
        return all(pair.same for pair in self.pairs)

    def to_json(self) -> dict[str, Any]:
        """What `ferrule diff --json` prints: every line, with `changed`."""
        pairs = []
        for pair in self.pairs:
            lines = [{**asdict(line), "changed": line.changed} for line in pair.lines]
            sides = {side: row.bundle if row else None for side, row in (("a", pair.a), ("b", pair.b))}
            pairs.append({"target": pair.name, "same": pair.same, "bundles": sides, "lines": lines})
        return {"schema": 1, "a": self.a, "b": self.b, "same": self.same, "pairs": pairs}


@dataclass(frozen=True)
class _Timing:
    """How `measure` is called for each side."""

    threads: int
    runs: int
    length: int | None


def diff(
    a: str | Path, b: str | Path, *, measure: bool = False, threads: int = 1, runs: int = 30, length: int | None = None
) -> Difference:
    """Compare two bundles (folders or .zip), or two build folders target by target.

    measure: time both sides of each pair now, in turns, in place of what `measurements.json` says; `runs` calls in each
    turn on `threads` threads, at `length` of the dynamic axis. Raises BundleError FER-BUN-… for what is damaged or no
    build, UsageError FER-USE-003 for a bundle beside a build folder.
    """
    a, b = Path(a), Path(b)
    for path in (a, b):
        if not path.exists():
            raise BundleError("FER-BUN-001", f"{path} does not exist.", "Give what `ferrule build` wrote.")
    if _is_bundle(a) != _is_bundle(b):
        kinds = ["a bundle" if _is_bundle(path) else "a build folder" for path in (a, b)]
        raise UsageError(
            "FER-USE-003", f"{a} is {kinds[0]}, {b} {kinds[1]}.", "Give two bundles, or two folders of bundles."
        )
    read = read_bundle if _is_bundle(a) else collect
    sides = [_sound(read(path)) for path in (a, b)]
    pairs = [(sides[0][0], sides[1][0])] if _is_bundle(a) else _match(*sides)
    timing = _Timing(threads, runs, length) if measure else None
    return Difference(str(a), str(b), tuple(_compare(*pair, (a, b), timing) for pair in pairs))


def _is_bundle(path: Path) -> bool:
    """A folder without manifest is a build folder; a file is a bundle's archive, or is refused as one."""
    return not path.is_dir() or (path / "manifest.json").is_file()


def _sound(data: ReportData) -> list[Row]:
    """The rows, if none is damaged: a comparison with unknown figures would be none."""
    for row in data.rows:
        if row.status == "damaged":
            raise BundleError(row.code or "FER-BUN-003", row.reason or f"{row.bundle} is damaged.", row.hint or "")
    return list(data.rows)


def _match(a: Sequence[Row], b: Sequence[Row]) -> list[tuple[Row | None, Row | None]]:
    """Rows of the same device, target and recipe; then, among the rest, those alone in their device and target."""
    keys: tuple[Callable[[Row], Hashable], ...] = (
        lambda row: (row.built.source if row.built else "", row.device, row.target, row.recipe),
        lambda row: (row.device, row.target, row.recipe),
        lambda row: (row.device, row.target),
    )
    found: dict[int, Row] = {}
    left_a, left_b = list(a), list(b)
    for key in keys:
        for row in list(left_a):
            alike = [other for other in left_b if key(other) == key(row)]
            if len(alike) == 1 and sum(key(other) == key(row) for other in left_a) == 1:
                found[row.number] = alike[0]
                left_a.remove(row)
                left_b.remove(alike[0])
    return [*((row, found.get(row.number)) for row in a), *((None, row) for row in left_b)]


def _compare(a: Row | None, b: Row | None, paths: tuple[Path, Path], timing: _Timing | None) -> Pair:
    if a is None or b is None:
        row = a or b
        assert row is not None
        status = Line("target", "status", a.status if a else None, b.status if b else None)
        return Pair(_name(row, row), a, b, (status,))
    rounds: tuple[Line, ...] = ()
    if timing and a.built and b.built and not (_is_interpreted(a) or _is_interpreted(b)):
        places = [
            path if _is_bundle(path) else path / (row.bundle or "") for path, row in zip(paths, (a, b), strict=True)
        ]
        times = _measure(places[0], places[1], timing)
        a, b = replace(a, latency=_middle(times[0])), replace(b, latency=_middle(times[1]))
        told = [", ".join(f"{found.p50:.3g}" for found in side) for side in times]
        rounds = (Line("host latency", "p50 of each turn, ms", told[0], told[1], decides=False),)
    elif timing:
        a, b = replace(a, latency=None), replace(b, latency=None)
    lines = compare_rows(a, b)
    after = 1 + max((place for place, line in enumerate(lines) if line.section == "host latency"), default=len(lines))
    return Pair(_name(a, b), a, b, (*lines[:after], *rounds, *lines[after:]))


def _name(a: Row, b: Row) -> str:
    """Device, target and recipe, with both values where the sides differ."""
    parts = [(getattr(a, name), getattr(b, name)) for name in ("device", "target", "recipe")]
    return " · ".join(x if x == y else f"{x} → {y}" for x, y in parts)


def _is_interpreted(row: Row) -> bool:
    """Whether a reference interpreter plays the bundle here: its times say nothing."""
    parity = row.built.program.parity if row.built else None
    return parity is not None and parity.engine.endswith("-reference")


def _measure(a: Path, b: Path, timing: _Timing) -> tuple[list[Latency], list[Latency]]:
    """Latencies of each turn, a and b in processes of their own, one at a time."""
    from ferrule.runtime.bench.measure import measure

    times: tuple[list[Latency], list[Latency]] = ([], [])
    for turn in TURNS * ROUNDS:
        path, kept = (a, times[0]) if turn == "a" else (b, times[1])
        kept.append(read_latency(measure(path, **asdict(timing)).to_json()))
    return times


def _middle(turns: Sequence[Latency]) -> Latency:
    """The median of each figure over the turns, and the sum of their runs."""
    names = ("p10", "p25", "p50", "p75", "p90", "p99", "load_ms", "peak_rss_mb")
    middle: dict[str, Any] = {name: round(float(median(getattr(turn, name) for turn in turns)), 4) for name in names}
    return replace(turns[0], runs=sum(turn.runs for turn in turns), **middle)
