"""Charts of a build as inline SVG whose colours follow the page and whose bytes depend on the data alone."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ferrule.report.data import ReportData, Row
from ferrule.report.labels import LIFT, MARKER, Label, merge_labels
from ferrule.report.markup import Markup, clean, element, format_megabytes, format_ms

__all__ = ["Chart", "draw_charts", "has_matplotlib"]

WIDTH = 4.9  # inches; 72 units of the drawing each, so that text stays legible on a phone
# Page variable and its light value, which stands for it while matplotlib draws.
INK, SOFT, LINE, PAGE = "#1c1d1f", "#56595e", "#d5d7da", "#fdfdfc"
COLOURS = {
    "--ink": INK,
    "--soft": SOFT,
    "--line": LINE,
    "--page": PAGE,
    "--c-linear": "#2b5d8c",
    "--c-embedding": "#c08a2d",
    "--c-other": "#6f9c8b",
    "--c-rest": "#b9bcc0",
}
# Part of an artefact, its colour, its hatch (colour is never the only sign).
PARTS = (
    ("linear", "--c-linear", ""),
    ("embedding", "--c-embedding", "////"),
    ("other weights", "--c-other", "\\\\\\\\"),
    ("graph and metadata", "--c-rest", "----"),
)
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ferrule",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "hatch.linewidth": 0.6,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "xtick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.color": LINE,
    "ytick.labelcolor": SOFT,
    "axes.unicode_minus": True,
}
TINY = 1e-6  # keeps an axis from having no extent
LEAST = 5e-7  # half of the last decimal that a manifest keeps of a cosine


@dataclass(frozen=True)
class Chart:
    """A figure: key (part of its ids), title, drawing, how to read it, and how its figures were got.

    basis: `measured`, `predicted` or `vendor`; command: what makes the figures again.
    """

    key: str
    title: str
    svg: Markup
    caption: str
    command: str
    basis: str = "measured"


def has_matplotlib() -> bool:
    """Whether charts can be drawn here: matplotlib is installed and can be loaded."""
    try:
        import_module("matplotlib.figure")
    except ImportError:
        return False
    return True


def draw_charts(data: ReportData) -> tuple[Chart, ...]:
    """The charts that the data allows; needs matplotlib (`ferrule[report]`)."""
    from matplotlib import rc_context

    with rc_context(SETTINGS):
        return tuple(_draw(data, [row for row in data.rows if row.built]))


def _draw(data: ReportData, built: Sequence[Row]) -> list[Chart]:
    drawn = []
    if built:
        drawn.append(_draw_sizes(built))
    proven = [r for r in built if r.built and r.built.program.parity and math.isfinite(r.built.program.parity.cosine)]
    if proven:
        drawn.append(_draw_cosines(proven))
    if data.accuracy and any(row.accuracy is not None for row in built):
        drawn.append(_draw_accuracies(data, [row for row in built if row.accuracy is not None]))
    if data.machine and any(row.latency for row in built):
        drawn.append(_draw_latencies(data, [row for row in built if row.latency]))
    return drawn


def split_size(row: Row) -> list[int]:
    """Bytes of a built row by PARTS; the last is what the file holds beside weights."""
    assert row.built is not None
    weights = row.built.program.weights
    parts = [sum(w.bytes for w in weights if w.kind == kind) for kind in ("linear", "embedding")]
    parts.append(sum(w.bytes for w in weights) - sum(parts))
    return [*parts, max(0, row.built.size_bytes - sum(parts))]


def _draw_sizes(rows: Sequence[Row]) -> Chart:
    figure, axes = _figure(0.42 * len(rows) + 1.25)
    top = max(max(sum(split_size(r)), r.built.fp32_bytes) for r in rows if r.built) / 1e6
    top = max(top, TINY)
    for place, row in enumerate(rows):
        assert row.built is not None
        left = 0.0
        for (_, colour, hatch), part in zip(PARTS, split_size(row), strict=True):
            fill = COLOURS[colour]
            axes.barh(place, part / 1e6, 0.4, left, color=fill, hatch=hatch, edgecolor=PAGE, linewidth=0)
            left += part / 1e6
        fp32 = row.built.fp32_bytes / 1e6
        axes.plot([fp32, fp32], [place - 0.25, place + 0.25], color=INK, linewidth=1.4)
        _label_row(axes, place, row, f"{format_megabytes(row.built.size_bytes)} MB", top)
    _lay_rows(axes, len(rows), top, "artefact size, MB (10⁶ bytes)")
    _add_legend(figure)
    alt = "; ".join(
        f"{r.number} {_name(r)}: {format_megabytes(r.built.size_bytes)} MB of {format_megabytes(r.built.fp32_bytes)} MB"
        for r in rows
        if r.built
    )
    caption = "Bars: the artefact's bytes by what they hold. Upright line: the same weights in float32."
    svg = _to_svg(figure, "size", f"Artefact sizes. {alt}.")
    return Chart("size", "Size of each artefact", svg, caption, "ferrule build, which reads each artefact back")


def _draw_cosines(rows: Sequence[Row]) -> Chart:
    points = [(r, max(LEAST, 1 - r.built.program.parity.cosine)) for r in rows if r.built and r.built.program.parity]
    figure, axes = _figure(3.1)
    axes.set_yscale("log")
    axes.minorticks_off()
    _scatter(axes, points, {r.number for r, value in points if value <= LEAST})
    low = math.floor(math.log10(min(v for _, v in points)) - 0.1)
    high = math.log10(max(v for _, v in points))
    axes.set_ylim(10**low, 10 ** max(math.ceil(high), high + 0.14 * (high - low)))
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: _power(value))
    axes.set_title("1 − cosine to the float32 model (lower is better)", **_TITLE)
    shared = _label_points(figure, axes, points)
    alt = "; ".join(f"{r.number} {_name(r)}: cosine {1 - v if v > LEAST else 1:.6f}" for r, v in points)
    caption = "Lowest cosine over all proof inputs and outputs. Numbers are those of the summary." + shared
    if any(value <= LEAST for _, value in points):
        caption += " Hollow: 1.000000 to the six decimals kept, drawn at 5 × 10⁻⁷."
    svg = _to_svg(figure, "cosine", f"Cosine against size. {alt}.")
    return Chart(
        "cosine",
        "Agreement with the model against size",
        svg,
        caption,
        "ferrule build; ferrule check BUNDLE runs the inputs it carries",
    )


def _draw_accuracies(data: ReportData, rows: Sequence[Row]) -> Chart:
    assert data.accuracy is not None
    reference = 100 * data.accuracy.reference_accuracy
    points = [(row, 100 * row.accuracy) for row in rows if row.accuracy is not None]
    figure, axes = _figure(3.1)
    axes.axhline(reference, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    _scatter(axes, points, set())
    values = [reference, *(value for _, value in points)]
    room = max(0.5, 0.25 * (max(values) - min(values)))
    axes.set_ylim(min(values) - room, max(values) + room)
    axes.set_title("accuracy, % (higher is better)", **_TITLE)
    shared = _label_points(figure, axes, points)
    alt = "; ".join(f"{row.number} {_name(row)}: {value:.2f} %" for row, value in points)
    name = data.accuracy.reference
    caption = f"Task: {data.accuracy.task}. Dashed: {name}, {reference:.2f} %. The axis does not begin at 0.{shared}"
    svg = _to_svg(figure, "accuracy", f"Accuracy against size; reference {reference:.2f} %. {alt}.")
    return Chart("accuracy", "Accuracy against size", svg, caption, data.accuracy.command)


def _draw_latencies(data: ReportData, rows: Sequence[Row]) -> Chart:
    assert data.machine is not None
    timed = [(row, row.latency) for row in rows if row.latency]
    figure, axes = _figure(0.42 * len(timed) + 0.95)
    top = max(TINY, *(found.p99 for _, found in timed))
    for place, (row, found) in enumerate(timed):
        axes.plot([found.p50, found.p99], [place, place], color=SOFT, linewidth=1.2)
        for value, size in ((found.p90, 0.11), (found.p99, 0.17)):
            axes.plot([value, value], [place - size, place + size], color=SOFT, linewidth=1.2)
        axes.plot([found.p50], [place], "o", markersize=6, color=COLOURS["--c-linear"])
        _label_row(axes, place, row, f"{format_ms(found.p50)} ms", top)
    _lay_rows(axes, len(timed), top, "host latency of one run, ms")
    alt = "; ".join(
        f"{row.number} {_name(row)}: {format_ms(f.p50)}, {format_ms(f.p90)}, {format_ms(f.p99)} ms" for row, f in timed
    )
    place_name = f"{data.machine.cpu}, {data.machine.cores} cores, {data.machine.system}"
    caption = f"Dot: p50; short and long tick: p90 and p99. Times of this machine ({place_name}), not of the devices."
    svg = _to_svg(figure, "latency", f"Host latency p50, p90, p99. {alt}.")
    return Chart("latency", "Latency on this machine", svg, caption, data.machine.command)


_TITLE: dict[str, Any] = {"loc": "left", "fontsize": 9.0, "color": SOFT, "pad": 8}


def _figure(height: float) -> tuple[Any, Any]:
    """A figure of its own, free of any global state, and its axes with light rules only."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, pad=4)
    axes.set_axisbelow(True)
    return figure, axes


def _scatter(axes: Any, points: Sequence[tuple[Row, float]], hollow: set[int]) -> None:
    """Points over size; `_label_points` numbers them once the axes are laid out."""
    sizes = [row.built.size_bytes / 1e6 for row, _ in points if row.built]
    for size, (row, value) in zip(sizes, points, strict=True):
        fill = PAGE if row.number in hollow else COLOURS["--c-linear"]
        axes.plot([size], [value], "o", markersize=MARKER, markerfacecolor=fill, markeredgecolor=COLOURS["--c-linear"])
    axes.set_xlim(0, 1.12 * max(*sizes, TINY))
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_xlabel("artefact size, MB (10⁶ bytes)")


def _label_points(figure: Any, axes: Any, points: Sequence[tuple[Row, float]]) -> str:
    """Number the points where they lie; returns the sentence for the caption if some share a label."""
    figure.get_layout_engine().execute(figure)  # only now are distances on paper known
    scale = 72 / figure.dpi
    labels = []
    for row, value in points:
        assert row.built is not None
        x, y = axes.transData.transform((row.built.size_bytes / 1e6, value)) * scale
        labels.append(Label((row.number,), ((float(x), float(y)),)))
    merged = merge_labels(labels)
    for label in merged:
        place = axes.transData.inverted().transform((label.x / scale, label.top / scale))
        axes.annotate(label.text, place, (0, LIFT), textcoords="offset points", ha="center", weight="bold")
    return " Points that lie close together share one label." if len(merged) < len(labels) else ""


def _label_row(axes: Any, place: int, row: Row, value: str, top: float) -> None:
    """Name above the bar at left, figure at right: no margin is lost to long names on a phone."""
    axes.text(0, place - 0.36, f"{row.number}", weight="bold", fontsize=9)
    axes.text(0.055 * 1.03 * top, place - 0.36, _name(row), fontsize=9, parse_math=False)
    axes.text(1.03 * top, place - 0.36, value, fontsize=9, ha="right", parse_math=False)


def _lay_rows(axes: Any, count: int, top: float, label: str) -> None:
    axes.set_xlim(0, 1.03 * top)
    axes.set_ylim(count - 0.5, -0.85)
    axes.set_yticks([])
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_xlabel(label)


def _add_legend(figure: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [
        Patch(facecolor=COLOURS[colour], hatch=hatch, edgecolor=PAGE, linewidth=0, label=label)
        for label, colour, hatch in PARTS
    ]
    keys.append(Line2D([], [], color=INK, linewidth=1.4, label="float32"))
    figure.legend(
        handles=keys, loc="outside upper left", ncols=3, frameon=False, fontsize=8.5, handlelength=1.4, borderpad=0
    )


def _name(row: Row) -> str:
    text = clean(f"{row.device} {row.target} {row.recipe}").replace("\n", " ").replace("\t", " ")
    return text if len(text) <= 48 else text[:47] + "…"


def _power(value: float) -> str:
    exponent = round(math.log10(value))
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _to_svg(figure: Any, key: str, alt: str) -> Markup:
    """The figure as an `<svg>` to stand inside HTML: no prologue, no metadata, ids of its own, colours by variable."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name in a script that matplotlib's font lacks; the browser has it
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue()
    view = re.search(r'viewBox="([^"]+)"', drawing)
    assert view is not None
    body = drawing[drawing.index(">", view.end()) + 1 : drawing.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.S)
    body = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{key}-", body)
    for name, light in COLOURS.items():
        body = body.replace(light, f"var({name}, {light})")
    body = "\n".join(line for line in body.splitlines() if line.strip())
    return element("svg", Markup(body), viewBox=view[1], role="img", aria_label=alt, id=f"chart-{key}")
