"""Charts of points: agreement and accuracy against size and against latency, one mark for each recipe and target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.report.canvas import (
    COLOURS,
    LINE,
    MARKS,
    PAGE,
    SOFT,
    TITLE,
    Chart,
    add_legend,
    make_figure,
    row_name,
    to_svg,
)
from ferrule.report.data import Row
from ferrule.report.figures import AccuracyRun, Machine
from ferrule.report.labels import LIFT, MARKER, Label, merge_labels
from ferrule.report.markup import clean

__all__ = ["Axis", "draw_accuracies", "draw_cosines", "over_latency", "over_size"]

TINY = 1e-6  # keeps an axis from having no extent
LEAST = 5e-7  # half of the last decimal that a manifest keeps of a cosine


@dataclass(frozen=True)
class Axis:
    """What a chart is drawn over: rows with their place, the axis' label, and what the caption must say of it."""

    name: str
    label: str
    rows: tuple[tuple[Row, float], ...]
    caption: str = ""
    suffix: str = ""
    command: str = ""


@dataclass(frozen=True)
class Point:
    """A row at its place; hollow marks a value that is only known to lie at or beyond the point."""

    row: Row
    x: float
    y: float
    hollow: bool = False


def over_size(rows: Sequence[Row]) -> Axis:
    """Built rows over the size of their artefacts."""
    places = tuple((row, row.built.size_bytes / 1e6) for row in rows if row.built)
    return Axis("size", "artefact size, MB (10⁶ bytes)", places)


def over_latency(rows: Sequence[Row], machine: Machine) -> Axis:
    """Rows with a latency over its median."""
    places = tuple((row, row.latency.p50) for row in rows if row.latency)
    told = f" Latency: the median on this machine ({machine.cpu}), not on the devices."
    return Axis("latency", "host latency of one run, median, ms", places, told, "-latency", machine.command)


def draw_cosines(axis: Axis, key: str) -> Chart | None:
    """1 − cosine on a logarithmic axis; None where no row has a finite cosine."""
    points = []
    for row, x in axis.rows:
        parity = row.built.program.parity if row.built else None
        if parity and math.isfinite(parity.cosine):
            loss = max(LEAST, 1 - parity.cosine)
            points.append(Point(row, x, loss, loss <= LEAST))
    if not points:
        return None
    figure, axes = make_figure(3.3)
    axes.set_yscale("log")
    _scatter(figure, axes, points, axis)
    low = math.floor(math.log10(min(p.y for p in points)) - 0.1)
    high = math.log10(max(p.y for p in points))
    axes.set_ylim(10**low, 10 ** max(math.ceil(high), high + 0.14 * (high - low)))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: _power(value))
    axes.set_title("1 − cosine to the float32 model (lower is better)", **TITLE)
    shared = _label_points(figure, axes, points)
    alt = "; ".join(f"{p.row.number} {row_name(p.row)}: cosine {1 if p.hollow else 1 - p.y:.6f}" for p in points)
    caption = f"Lowest cosine over all proof inputs and outputs.{axis.caption}{shared}"
    if any(p.hollow for p in points):
        caption += " Hollow: 1.000000 to the six decimals kept, drawn at 5 × 10⁻⁷."
    svg = to_svg(figure, key, f"Cosine against {axis.name}. {alt}.")
    command = "ferrule build; ferrule check BUNDLE runs the inputs it carries"
    return Chart(key, f"Agreement with the model against {axis.name}", svg, caption, _commands(command, axis))


def draw_accuracies(axis: Axis, run: AccuracyRun, key: str) -> Chart | None:
    """Accuracy in percent beside the reference's; None where no row has one."""
    points = [Point(row, x, 100 * row.accuracy) for row, x in axis.rows if row.accuracy is not None]
    if not points:
        return None
    reference = 100 * run.reference_accuracy
    figure, axes = make_figure(3.3)
    axes.axhline(reference, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    _scatter(figure, axes, points, axis)
    values = [reference, *(p.y for p in points)]
    room = max(0.5, 0.25 * (max(values) - min(values)))
    axes.set_ylim(min(values) - room, max(values) + room)
    axes.set_title("accuracy, % (higher is better)", **TITLE)
    shared = _label_points(figure, axes, points)
    alt = "; ".join(f"{p.row.number} {row_name(p.row)}: {p.y:.2f} %" for p in points)
    caption = (
        f"Task: {run.task}. Dashed: {run.reference}, {reference:.2f} %. The axis does not begin at 0."
        f"{axis.caption}{shared}"
    )
    svg = to_svg(figure, key, f"Accuracy against {axis.name}; reference {reference:.2f} %. {alt}.")
    return Chart(key, f"Accuracy against {axis.name}", svg, caption, _commands(run.command, axis))


def _commands(command: str, axis: Axis) -> str:
    return command if axis.command in ("", command) else f"{command}; {axis.command}"


def _scatter(figure: Any, axes: Any, points: Sequence[Point], axis: Axis) -> None:
    """Points by recipe, with a legend; `_label_points` numbers them once the axes are laid out."""
    from matplotlib.lines import Line2D

    recipes = list(dict.fromkeys(point.row.recipe for point in points))
    keys = []
    for index, recipe in enumerate(recipes):
        name, shape = MARKS[index % len(MARKS)]
        style = {"marker": shape, "markersize": MARKER, "markeredgecolor": COLOURS[name], "linestyle": ""}
        for point in points:
            if point.row.recipe == recipe:
                fill = PAGE if point.hollow else COLOURS[name]
                axes.plot([point.x], [point.y], markerfacecolor=fill, **style)
        keys.append(Line2D([], [], markerfacecolor=COLOURS[name], **style))
    axes.set_xlim(0, 1.12 * max(TINY, *(point.x for point in points)))
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_xlabel(axis.label)
    add_legend(figure, keys, [clean(recipe).replace("\n", " ")[:24] for recipe in recipes])


def _label_points(figure: Any, axes: Any, points: Sequence[Point]) -> str:
    """Number the points where they lie; returns the sentence for the caption if some share a label."""
    figure.get_layout_engine().execute(figure)  # only now are distances on paper known
    scale = 72 / figure.dpi
    labels = []
    for point in points:
        x, y = axes.transData.transform((point.x, point.y)) * scale
        labels.append(Label((point.row.number,), ((float(x), float(y)),)))
    merged = merge_labels(labels)
    for label in merged:
        place = axes.transData.inverted().transform((label.x / scale, label.top / scale))
        axes.annotate(label.text, place, (0, LIFT), textcoords="offset points", ha="center", weight="bold")
    return " Points that lie close together share one label." if len(merged) < len(labels) else ""


def _power(value: float) -> str:
    exponent = round(math.log10(value))
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
