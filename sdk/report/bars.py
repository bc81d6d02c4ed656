"""Charts of rows: sizes by what they hold, latencies with their spread, losses by layer."""

from __future__ import annotations

from collections.abc import Sequence

from ferrule.report.canvas import (
    COLOURS,
    INK,
    PAGE,
    SOFT,
    Chart,
    add_legend,
    label_row,
    lay_rows,
    make_figure,
    row_name,
    shorten,
    to_svg,
)
from ferrule.report.data import Row
from ferrule.report.figures import Latency, Machine, Sensitivity
from ferrule.report.markup import format_error, format_megabytes, format_ms

__all__ = ["draw_latencies", "draw_sensitivity", "draw_sizes", "split_size"]

# Part of an artefact, its colour, its hatch (colour is never the only sign).
PARTS = (
    ("linear", "--c-linear", ""),
    ("embedding", "--c-embedding", "////"),
    ("other weights", "--c-other", "\\\\\\\\"),
    ("graph and metadata", "--c-rest", "----"),
)
TINY = 1e-6  # keeps an axis from having no extent
MOST_LAYERS = 30


def split_size(row: Row) -> list[int]:
    """Bytes of a built row by PARTS; the last is what the file holds beside weights."""
    assert row.built is not None
    weights = row.built.program.weights
    parts = [sum(w.bytes for w in weights if w.kind == kind) for kind in ("linear", "embedding")]
    parts.append(sum(w.bytes for w in weights) - sum(parts))
    return [*parts, max(0, row.built.size_bytes - sum(parts))]


def draw_sizes(rows: Sequence[Row], key: str = "size", marks: Sequence[str] | None = None) -> Chart:
    """Stacked bars of built rows; `marks` stand before the names instead of the rows' numbers."""
    marks = marks or [str(row.number) for row in rows]
    figure, axes = make_figure(0.42 * len(rows) + 1.35)
    top = max(max(sum(split_size(r)), r.built.fp32_bytes) for r in rows if r.built) / 1e6
    top = max(top, TINY)
    for place, (mark, row) in enumerate(zip(marks, rows, strict=True)):
        assert row.built is not None
        left = 0.0
        for (_, colour, hatch), part in zip(PARTS, split_size(row), strict=True):
            fill = COLOURS[colour]
            axes.barh(place, part / 1e6, 0.4, left, color=fill, hatch=hatch, edgecolor=PAGE, linewidth=0)
            left += part / 1e6
        fp32 = row.built.fp32_bytes / 1e6
        axes.plot([fp32, fp32], [place - 0.25, place + 0.25], color=INK, linewidth=1.4)
        label_row(axes, place, mark, row_name(row), f"{format_megabytes(row.built.size_bytes)} MB", top)
    lay_rows(axes, len(rows), top, "artefact size, MB (10⁶ bytes)")
    _add_parts(figure)
    alt = "; ".join(
        f"{mark} {row_name(r)}: {format_megabytes(r.built.size_bytes)} MB of {format_megabytes(r.built.fp32_bytes)} MB"
        for mark, r in zip(marks, rows, strict=True)
        if r.built
    )
    caption = "Bars: the artefact's bytes by what they hold. Upright line: the same weights in float32."
    svg = to_svg(figure, key, f"Artefact sizes. {alt}.")
    return Chart(key, "Size of each artefact", svg, caption, "ferrule build, which reads each artefact back")


def _add_parts(figure: object) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[object] = [
        Patch(facecolor=COLOURS[colour], hatch=hatch, edgecolor=PAGE, linewidth=0) for _, colour, hatch in PARTS
    ]
    keys.append(Line2D([], [], color=INK, linewidth=1.4))
    add_legend(figure, keys, [*(label for label, _, _ in PARTS), "float32"])


def draw_latencies(rows: Sequence[Row], machine: Machine, key: str = "latency") -> Chart:
    """Medians with their spread, of rows that have a latency."""
    timed = [(row, row.latency) for row in rows if row.latency]
    figure, axes = make_figure(0.42 * len(timed) + 0.95)
    top = max(TINY, *(found.p99 for _, found in timed))
    for place, (row, found) in enumerate(timed):
        low = found.p50 if found.p10 is None else found.p10
        axes.plot([low, found.p99], [place, place], color=SOFT, linewidth=1.2)
        axes.barh(place, found.p90 - low, 0.22, low, color=COLOURS["--c-rest"], linewidth=0)
        axes.plot([found.p99, found.p99], [place - 0.15, place + 0.15], color=SOFT, linewidth=1.2)
        axes.plot([found.p50], [place], "o", markersize=6, color=COLOURS["--c-linear"])
        label_row(axes, place, str(row.number), row_name(row), f"{format_ms(found.p50)} ms", top)
    lay_rows(axes, len(timed), top, "host latency of one run, ms")
    alt = "; ".join(f"{row.number} {row_name(row)}: {_spread(f)} ms" for row, f in timed)
    place_name = f"{machine.cpu}, {machine.cores} cores, {machine.system}"
    low_name = "p10" if all(found.p10 is not None for _, found in timed) else "p10 (p50 where p10 was not kept)"
    caption = (
        f"Dot: the median; bar: from {low_name} to p90; tick: p99. Times of this machine ({place_name}), "
        "not of the devices."
    )
    svg = to_svg(figure, key, f"Host latency, median and spread. {alt}.")
    return Chart(key, "Latency on this machine", svg, caption, machine.command)


def _spread(found: Latency) -> str:
    low = "" if found.p10 is None else f"p10 {format_ms(found.p10)}, "
    return f"{low}p50 {format_ms(found.p50)}, p90 {format_ms(found.p90)}, p99 {format_ms(found.p99)}"


def draw_sensitivity(found: Sensitivity, key: str = "sensitivity") -> Chart:
    """The layers that lose most when they alone are compressed, worst first, at most MOST_LAYERS of them."""
    shown = found.ranked[:MOST_LAYERS]
    figure, axes = make_figure(0.36 * len(shown) + 0.75)
    top = max(TINY * TINY, *(layer.loss for layer in shown))
    for place, layer in enumerate(shown):
        axes.barh(place, layer.loss, 0.36, color=COLOURS["--c-linear"], linewidth=0)
        label_row(axes, place, "", shorten(layer.name), format_error(layer.loss), top)
    lay_rows(axes, len(shown), top, found.metric)
    axes.ticklabel_format(axis="x", style="plain" if top >= 1e-3 else "sci", scilimits=(0, 0), useMathText=False)
    axes.locator_params(axis="x", nbins=5)
    rest = found.ranked[MOST_LAYERS:]
    told = "1 more layer loses" if len(rest) == 1 else f"{len(rest)} more layers lose"
    left = f" {told} {format_error(rest[0].loss)} or less each." if rest else ""
    caption = f"Each bar: {found.metric}, with only this layer compressed by {found.recipe}.{left}"
    alt = "; ".join(f"{layer.name}: {format_error(layer.loss)}" for layer in shown)
    svg = to_svg(figure, key, f"Loss by layer, worst first. {alt}.")
    return Chart(key, "Layers that lose most", svg, caption, found.command)
