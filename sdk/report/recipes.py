"""The sections about what was asked for: recipes with their techniques, and what each layer costs."""

from __future__ import annotations

from collections.abc import Sequence

from ferrule.catalog import find_technique
from ferrule.report.data import ReportData, Row
from ferrule.report.figures import LayerLoss, Sensitivity
from ferrule.report.markup import NONE, Markup, element, format_count, format_error, join, table

__all__ = ["show_recipes", "show_sensitivity"]

OPEN_LAYERS = 12  # rows of the table that stand open; the rest is folded away


def show_recipes(data: ReportData) -> Markup:
    """A table of recipes: their techniques in order with options, what those do, the bound, the targets' numbers."""
    rows = []
    for name in dict.fromkeys(row.recipe for row in data.rows if row.built):
        users = [row for row in data.rows if row.built and row.recipe == name]
        for steps, bound in dict.fromkeys((row.built.steps, row.built.min_cosine) for row in users if row.built):
            same = [r for r in users if r.built and (r.built.steps, r.built.min_cosine) == (steps, bound)]
            rows.append([name, _steps(steps), f"{bound:g}", _numbers(same)])
    columns = [("Recipe", "t"), ("Techniques, in order", "w"), ("Cosine must reach", "n"), ("Built for", "t")]
    return table(columns, rows, "Recipes and their techniques")


def _steps(steps: Sequence[str]) -> Markup:
    if not steps:
        return element("span", "none: float weights as they are")
    lines = []
    for step in steps:
        name, _, options = step.partition(" ")
        row = find_technique(name)
        told = f": {row[0].summary}" if row else ""
        lines.append(Markup(element("span", element("code", name), told, f" ({options})" if options else "")))
    return Markup("<br>".join(lines))


def _numbers(rows: Sequence[Row]) -> Markup:
    links = [element("a", str(r.number), href=f"#target-{r.number}", aria_label=f"Target {r.number}") for r in rows]
    return element("span", Markup(", ".join(links)))


def show_sensitivity(found: Sensitivity, figure: Markup) -> Markup:
    """What is lost when one layer at a time is compressed: the chart, then each layer, worst first."""
    lead = element("p", f"{found.model}, recipe {found.recipe}, {_count(len(found.layers))}. Lower is better.")
    if not found.layers:
        return join([lead, element("p", "The file names no layer.")])
    ranked = found.ranked
    parts = [lead, figure, _layers(ranked[:OPEN_LAYERS], found, "Layers that lose most")]
    if len(ranked) > OPEN_LAYERS:
        rest = _layers(ranked[OPEN_LAYERS:], found, "The other layers")
        parts.append(element("details", element("summary", f"The other {_count(len(ranked) - OPEN_LAYERS)}"), rest))
    note = f"Loss: {found.metric}. Baseline: {format_error(found.baseline)}. Measured: "
    parts.append(element("p", note, element("code", found.command), class_="note"))
    return join(parts)


def _count(layers: int) -> str:
    return f"{format_count(layers)} layer{'' if layers == 1 else 's'}"


def _layers(layers: Sequence[LayerLoss], found: Sensitivity, label: str) -> Markup:
    columns = [("Layer", "w"), ("Kind", "t"), ("Elements", "n"), ("Loss", "n"), ("Cosine", "n")]
    rows = [
        [
            element("code", layer.name),
            layer.kind or NONE,
            format_count(layer.elements),
            format_error(layer.loss),
            f"{layer.cosine:.6f}",
        ]
        for layer in layers
    ]
    return table(columns, rows, label)
