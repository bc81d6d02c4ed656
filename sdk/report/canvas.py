"""Drawing: a figure free of global state, the colours of the page, and the SVG that stands inside HTML."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ferrule.report.data import Row
from ferrule.report.markup import Markup, clean, element

__all__ = [
    "COLOURS",
    "INK",
    "LINE",
    "MARKS",
    "PAGE",
    "SETTINGS",
    "SOFT",
    "TITLE",
    "Chart",
    "add_legend",
    "label_row",
    "lay_rows",
    "make_figure",
    "row_name",
    "shorten",
    "to_svg",
]

WIDTH = 4.4  # inches; 72 units of the drawing each, so that text stays legible on a phone
# Page variable and its light value, which stands for it while matplotlib draws: each value once only.
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
    "--m-1": "#2b5d8d",
    "--m-2": "#b5532a",
    "--m-3": "#3d7f5f",
    "--m-4": "#7d5aa3",
    "--m-5": "#a67c1b",
}
# Five colours and six shapes: thirty recipes before a pair comes again, and colour is never the only sign.
MARKS = tuple((f"--m-{1 + index % 5}", "os^DvP"[index % 6]) for index in range(30))
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
TITLE: dict[str, Any] = {"loc": "left", "fontsize": 9.0, "color": SOFT, "pad": 8}
LONGEST = 48  # characters of a name above a bar


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


def make_figure(height: float) -> tuple[Any, Any]:
    """A figure of its own, free of any global state, and its axes with light rules only; height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, pad=4)
    axes.set_axisbelow(True)
    return figure, axes


def label_row(axes: Any, place: int, number: str, name: str, value: str, top: float) -> None:
    """Name above the bar at left, figure at right: no margin is lost to long names on a phone."""
    indent = 0.02 + 0.026 * len(number) if number else 0.0
    axes.text(0, place - 0.36, number, weight="bold", fontsize=9, parse_math=False)
    axes.text(indent * 1.03 * top, place - 0.36, name, fontsize=9, parse_math=False)
    axes.text(1.03 * top, place - 0.36, value, fontsize=9, ha="right", parse_math=False)


def lay_rows(axes: Any, count: int, top: float, label: str) -> None:
    """Axes for `count` rows of bars from 0 to `top`."""
    axes.set_xlim(0, 1.03 * top)
    axes.set_ylim(count - 0.5, -0.85)
    axes.set_yticks([])
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_xlabel(label)


def add_legend(figure: Any, keys: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend above the axes, without a frame."""
    look = {"ncols": 3, "frameon": False, "fontsize": 8.5, "handlelength": 1.4, "borderpad": 0}
    # Set afterwards: a label that begins with `_` or holds `$` has a meaning of its own to matplotlib.
    legend = figure.legend(handles=keys, labels=["."] * len(keys), loc="outside upper left", **look)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_parse_math(False)
        text.set_text(label)


def row_name(row: Row) -> str:
    """Device, target and recipe in one line of a chart."""
    return shorten(f"{row.device} {row.target} {row.recipe}")


def shorten(text: str) -> str:
    """One line that fits above a bar; what is cut away is cut in the middle, where names differ least."""
    text = clean(text).replace("\n", " ").replace("\t", " ")
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 1]}…{text[-half:]}"


def to_svg(figure: Any, key: str, alt: str) -> Markup:
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
