"""The page: summary, charts, then a section for each target; one file that fetches nothing and runs no script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import ferrule
from ferrule.atomic import write_text
from ferrule.errors import OutputError
from ferrule.report.charts import Chart, chart_layers, draw_charts, has_matplotlib
from ferrule.report.data import ReportData, Row, collect
from ferrule.report.markup import (
    NONE,
    Column,
    Markup,
    element,
    format_error,
    format_megabytes,
    format_ms,
    format_percent,
    format_points,
    join,
    table,
)
from ferrule.report.recipes import show_recipes, show_sensitivity
from ferrule.report.sections import (
    REFERENCE_INTERPRETER,
    describe_machine,
    is_interpreted,
    show_built,
    show_unbuilt,
)

__all__ = ["frame", "render", "show_figure", "write", "write_page"]

STATUSES = {"ok": "built", "refused": "refused", "failed": "failed", "damaged": "damaged"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # nothing is fetched, no script runs, whatever a name says
SHOWN_NOTES = 2


def render(data: ReportData) -> str:
    """The HTML of a report; the same data gives the same bytes."""
    title = "Ferrule report" + (f": {', '.join(data.sources)}" if data.sources else "")
    built = [row for row in data.rows if row.built]
    unbuilt = [row for row in data.rows if not row.built]
    parts = [element("h2", "Summary"), *(_problem(text) for text in data.problems), *_summary(data)]
    if built:
        parts += [element("h2", "Charts"), _charts(data), element("h2", "Recipes"), show_recipes(data)]
    if data.sensitivity:
        parts += [element("h2", "Sensitivity by layer"), show_sensitivity(data.sensitivity, _layers(data))]
    if built:
        parts += [element("h2", "Bundles"), *(show_built(row, data) for row in built)]
    if unbuilt:
        parts += [element("h2", "Not built"), *(show_unbuilt(row) for row in unbuilt)]
    return frame(title, _count(data.rows), parts)


def frame(title: str, lead: str, parts: Sequence[Markup]) -> str:
    """A whole page around its parts: one file that fetches nothing and runs nothing."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", title),
        element("style", Markup(files("ferrule.report").joinpath("page.css").read_text(encoding="utf-8"))),
    )
    top = element("header", element("h1", title), element("p", lead, class_="lead"))
    foot = element("footer", f"Written by ferrule {ferrule.__version__}. This page fetches nothing and runs no script.")
    body = element("body", join([top, element("main", join(parts)), foot]))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def write(folder: Path, out: Path) -> Path:
    """Write the report of a build folder to `out`, beside it first and then renamed; returns `out`.

    Raises BundleError FER-BUN-001 if the folder holds no build, OutputError FER-OUT-001 if `out` cannot be written.
    """
    return write_page(render(collect(Path(folder))), Path(out))


def write_page(page: str, out: Path) -> Path:
    """Write a page to `out`, beside it first and then renamed; raises OutputError FER-OUT-001."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
    except OSError as error:
        raise OutputError(
            "FER-OUT-001",
            f"{out} cannot be written: {error.strerror or error}.",
            "Give a file in a folder with write permission and enough space by -o.",
        ) from error
    return out


def _count(rows: Sequence[Row]) -> str:
    """`6 targets: 4 built, 1 refused, 1 failed`; what does not occur is left out, except that 0 built is told."""
    counts = Counter(row.status for row in rows)
    told = [f"{counts[status]} {word}" for status, word in STATUSES.items() if counts[status] or status != "damaged"]
    return f"{len(rows)} target{'' if len(rows) == 1 else 's'}: {', '.join(told)}."


def _problem(text: str) -> Markup:
    return element("p", element("span", "Problem: ", class_="s s-damaged"), text)


def _summary(data: ReportData) -> list[Markup]:
    """The table and, directly below it, what its figures are and are not."""
    columns: list[Column] = [
        ("№", "n"),
        *([("Model", "t")] if len(data.sources) > 1 else []),
        ("Device", "t"),
        ("Target", "t"),
        ("Recipe", "t"),
        ("Status", "t"),
        ("Size, MB", "n"),
        ("% of float32", "n"),
        ("Cosine, lowest", "n"),
        ("Max |error|", "n"),
    ]
    if data.accuracy:
        columns += [("Accuracy, %", "n"), ("Difference, points", "n")]
    if data.machine:
        columns.append(("Host p50, ms", "n"))
    columns.append(("Notes", "w"))
    cells = [_summary_row(row, data) for row in data.rows]
    return [table(columns, cells, "Summary of all targets", stacked=True), *_legend(data)]


def _summary_row(row: Row, data: ReportData) -> list[str]:
    cells: list[str] = [
        element("a", str(row.number), href=f"#target-{row.number}", aria_label=f"Target {row.number}, details"),
        *([row.built.source if row.built else NONE] if len(data.sources) > 1 else []),
        row.device or NONE,
        row.target or NONE,
        row.recipe or NONE,
        element("span", row.status, class_=f"s s-{row.status}"),
    ]
    parity = row.built.program.parity if row.built else None
    cells += [format_megabytes(row.built.size_bytes), _share(row)] if row.built else [NONE, NONE]
    cells += [f"{parity.cosine:.6f}", format_error(parity.max_abs)] if parity else [NONE, NONE]
    if data.accuracy:
        known = row.accuracy is not None
        cells.append(f"{100 * (row.accuracy or 0):.2f}" if known else NONE)
        cells.append(format_points((row.accuracy or 0) - data.accuracy.reference_accuracy) if known else NONE)
    if data.machine:
        cells.append(format_ms(row.latency.p50) if row.latency else NONE)
    return [*cells, _notes(row)]


def _share(row: Row) -> str:
    assert row.built is not None
    return format_percent(row.built.size_bytes, row.built.fp32_bytes)


def _notes(row: Row) -> Markup:
    """The first notes, or the code and reason of what was not built; the section holds the rest."""
    if not row.built:
        return element("span", element("code", row.code or ""), f" {row.reason or ''}")
    notes = list(row.notes)
    if _is_interpreted(row):
        notes.insert(0, "Parity by the reference interpreter, not Apple's runtime.")
    shown = [Markup(element("span", note) + element("br")) for note in notes[:SHOWN_NOTES]]
    more = len(notes) - SHOWN_NOTES
    if more > 0:
        shown.append(element("a", f"{more} more", href=f"#target-{row.number}"))
    return element("span", *shown)


def _is_interpreted(row: Row) -> bool:
    parity = row.built.program.parity if row.built else None
    return parity is not None and is_interpreted(parity)


def _legend(data: ReportData) -> list[Markup]:
    built = [row.built for row in data.rows if row.built]
    told = [
        "Size: the artefact alone, without tokenizer and proof, in 10⁶ bytes; beside it its share of the same weights "
        "in float32. Cosine and max |error|: measured here against the float32 model, the worst over all proof inputs."
    ]
    interpreted = [str(row.number) for row in data.rows if _is_interpreted(row)]
    if interpreted:
        told.append(f"Parity of {', '.join(interpreted)}: {REFERENCE_INTERPRETER}")
    lines = [element("p", text, class_="note") for text in told] if built else []
    if data.accuracy:
        run = data.accuracy
        text = (
            f"Accuracy: {run.task}. Reference: {run.reference}, {100 * run.reference_accuracy:.2f} %; the difference "
            "is in percentage points. Measured: "
        )
        lines.append(element("p", text, element("code", run.command), class_="note"))
    if data.machine:
        text = f"{describe_machine(data.machine)} Measured: "
        lines.append(element("p", text, element("code", data.machine.command), class_="note"))
    missing = [name for name, known in (("accuracy", data.accuracy), ("host latency", data.machine)) if not known]
    if built and missing:
        lines.append(element("p", f"Not measured for this report: {', '.join(missing)}.", class_="note"))
    return lines


def _charts(data: ReportData) -> Markup:
    if not has_matplotlib():
        return element(
            "p",
            "No charts: matplotlib is not installed. Run ",
            element("code", "pip install 'ferrule[report]'"),
            " and write the report again.",
        )
    if len(data.sources) == 1:
        return element("div", *(show_figure(chart) for chart in draw_charts(data)), class_="figures")
    # Sizes and times of different models say nothing beside each other: small multiples, a set for each.
    parts = []
    for source in data.sources:
        parts.append(element("h3", source))
        parts.append(element("div", *(show_figure(chart) for chart in draw_charts(data, source)), class_="figures"))
    return join(parts)


def _layers(data: ReportData) -> Markup:
    if not data.sensitivity or not data.sensitivity.layers or not has_matplotlib():
        return Markup("")
    return element("div", show_figure(chart_layers(data.sensitivity)), class_="figures")


def show_figure(chart: Chart) -> Markup:
    """A chart with its title, how to read it, and the command that makes its figures again."""
    caption = element("figcaption", chart.caption, element("br"), chart.basis.capitalize() + ": ", chart.command)
    return element("figure", element("h3", chart.title), chart.svg, caption)
