"""The page of `ferrule diff`, and how a line of a difference is written there and on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ferrule.report.charts import chart_sizes, has_matplotlib
from ferrule.report.markup import (
    NONE,
    Column,
    Markup,
    element,
    format_count,
    format_error,
    format_megabytes,
    format_ms,
    join,
    table,
)
from ferrule.report.page import frame, show_figure, write_page

if TYPE_CHECKING:
    from ferrule.compare import Line, Value
    from ferrule.difference import Difference, Pair

__all__ = ["describe_change", "format_value", "render_difference", "select_lines", "write_difference"]

HEADLINES = ("whole artefact", "cosine, lowest", "task accuracy", "p50 of one run")
HOST = "Times are those of the machine that measured, not of the devices, and never decide whether two builds differ."


def select_lines(pair: Pair) -> list[Line]:
    """What changed, and beside it the figures that one asks for first even where they are the same."""
    return [line for line in pair.lines if line.changed or line.name in HEADLINES]


def format_value(value: Value, unit: str) -> str:
    """A value as the report writes it: `59.6 MB`, `1.94 ms`, `0.998369`; `–` where a side has none."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if unit == "bytes":
        return f"{format_megabytes(int(value))} MB" if abs(value) >= 1000 else f"{value} B"
    if unit == "ms":
        return f"{format_ms(value)} ms"
    if unit in ("MB", "%"):
        return f"{value:.4g} {unit}"
    if isinstance(value, int):
        return format_count(value)
    return f"{value:.6f}" if abs(value) >= 0.1 else format_error(value)


def describe_change(line: Line) -> str:
    """How far b is from a, signed, with the share where sizes and times are compared; empty for texts."""
    if isinstance(line.a, str) or isinstance(line.b, str) or line.a is None or line.b is None or not line.changed:
        return ""
    change = line.b - line.a
    sign = "+" if change > 0 else "−"
    share = f" ({sign}{abs(100 * change / line.a):.1f} %)" if line.a and line.unit in ("bytes", "ms", "MB") else ""
    if line.unit == "%":
        return f"{sign}{abs(change):.4g} points"
    return f"{sign}{format_value(abs(change), line.unit)}{share}"


def render_difference(found: Difference) -> str:
    """The HTML of a difference; the same difference gives the same bytes."""
    changed = [pair for pair in found.pairs if not pair.same]
    lead = f"{len(found.pairs)} target{'' if len(found.pairs) == 1 else 's'} compared: {len(changed)} differ."
    parts = [element("p", element("span", "A: ", class_="key"), element("code", found.a))]
    parts.append(element("p", element("span", "B: ", class_="key"), element("code", found.b)))
    if len(found.pairs) > 1:
        parts += [element("h2", "Summary"), _summary(found.pairs)]
    parts += [_show_pair(number, pair) for number, pair in enumerate(found.pairs, 1)]
    parts.append(element("p", HOST, class_="note"))
    return frame("Ferrule difference", lead, parts)


def write_difference(found: Difference, out: Path) -> Path:
    """Write the page to `out`; raises OutputError FER-OUT-001 where it cannot be written."""
    return write_page(render_difference(found), out)


def _summary(pairs: Sequence[Pair]) -> Markup:
    columns: list[Column] = [("Target", "t"), ("Result", "t")]
    columns += [(name.capitalize(), "n") for name in HEADLINES]
    rows = []
    for number, pair in enumerate(pairs, 1):
        found = {line.name: line for line in pair.lines}
        changes = [_headline(found.get(name)) for name in HEADLINES]
        rows.append([element("a", pair.name, href=f"#pair-{number}"), _verdict(pair), *changes])
    return table(columns, rows, "All targets of both sides", stacked=True)


def _headline(line: Line | None) -> str:
    if line is None:
        return NONE
    return describe_change(line) or ("same" if not line.changed else NONE)


def _verdict(pair: Pair) -> str:
    if pair.a is None or pair.b is None:
        return "only in B" if pair.a is None else "only in A"
    return "same" if pair.same else "differs"


def _show_pair(number: int, pair: Pair) -> Markup:
    rows: list[Sequence[str]] = []
    for line in select_lines(pair):
        values = [format_value(value, line.unit) for value in (line.a, line.b)]
        rows.append([line.section, line.name, *values, describe_change(line)])
    columns: list[Column] = [("Part", "t"), ("What", "t"), ("A", "v"), ("B", "v"), ("Change", "n")]
    parts = [element("h2", f"{pair.name}: {_verdict(pair)}"), _sizes(number, pair)]
    parts.append(table(columns, rows, f"Lines of {pair.name}", stacked=True))
    same = sum(not line.changed for line in pair.lines)
    parts.append(element("p", f"{same} of {len(pair.lines)} things compared are the same.", class_="note"))
    return element("section", join(parts), id=f"pair-{number}")


def _sizes(number: int, pair: Pair) -> Markup:
    """The bars of both sides, where both are built, differ, and can be drawn."""
    rows = [row for row in (pair.a, pair.b) if row and row.built]
    if pair.same or len(rows) < 2 or not has_matplotlib():
        return Markup("")
    return element("div", show_figure(chart_sizes(rows, f"size-{number}", ("A", "B"))), class_="figures")
