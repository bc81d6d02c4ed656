"""The charts of a build: which of them the data allows, in which order, for each model of the folder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from ferrule.report.bars import draw_latencies, draw_sensitivity, draw_sizes
from ferrule.report.canvas import SETTINGS, Chart
from ferrule.report.data import ReportData, Row
from ferrule.report.figures import Sensitivity
from ferrule.report.scatter import draw_accuracies, draw_cosines, over_latency, over_size

__all__ = ["Chart", "chart_layers", "chart_sizes", "draw_charts", "has_matplotlib"]


def has_matplotlib() -> bool:
    """Whether charts can be drawn here: matplotlib is installed and can be loaded."""
    try:
        import_module("matplotlib.figure")
    except ImportError:
        return False
    return True


def draw_charts(data: ReportData, source: str | None = None) -> tuple[Chart, ...]:
    """The charts that the data allows of one model, or of all rows; needs matplotlib (`ferrule[report]`)."""
    from matplotlib import rc_context

    built = [row for row in data.rows if row.built and source in (None, row.built.source)]
    suffix = "" if source is None else f"-{1 + data.sources.index(source)}"
    with rc_context(SETTINGS):
        return tuple(_draw(data, built, suffix))


def chart_layers(found: Sensitivity) -> Chart:
    """The chart of `sensitivity.json`; needs matplotlib."""
    from matplotlib import rc_context

    with rc_context(SETTINGS):
        return draw_sensitivity(found)


def chart_sizes(rows: Sequence[Row], key: str, marks: Sequence[str]) -> Chart:
    """Sizes of chosen rows under marks of one's own; needs matplotlib."""
    from matplotlib import rc_context

    with rc_context(SETTINGS):
        return draw_sizes(rows, key, marks)


def _draw(data: ReportData, built: Sequence[Row], suffix: str) -> list[Chart]:
    """Sizes and times first, then quality over each of them."""
    if not built:
        return []
    drawn: list[Chart | None] = [draw_sizes(built, f"size{suffix}")]
    axes = [over_size(built)]
    if data.machine and any(row.latency for row in built):
        drawn.append(draw_latencies(built, data.machine, f"latency{suffix}"))
        axes.append(over_latency(built, data.machine))
    for axis in axes:
        drawn.append(draw_cosines(axis, f"cosine{axis.suffix}{suffix}"))
    if data.accuracy:
        for axis in axes:
            drawn.append(draw_accuracies(axis, data.accuracy, f"accuracy{axis.suffix}{suffix}"))
    return [chart for chart in drawn if chart]
