"""HTML elements whose text is escaped by construction, and the way figures are written."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = [
    "NONE",
    "Column",
    "Markup",
    "clean",
    "element",
    "format_count",
    "format_error",
    "format_megabytes",
    "format_ms",
    "format_percent",
    "format_points",
    "join",
    "table",
]

NONE = "–"
GROUP = "\u202f"  # narrow no-break space between thousands
VOID = ("br", "meta")
KEPT = ("\n", "\t", "\u200c", "\u200d")  # the joiners that some scripts need
Column = tuple[str, str]  # heading and class: "n" figures, "t" short text, "w" text that wraps


class Markup(str):
    """Text that is HTML already; any other str is escaped on entry into an element."""

    __slots__ = ()


def clean(text: str) -> str:
    """Text without what could break or disguise a page: control and direction characters, lone surrogates."""
    whole = text.encode("utf-8", "replace").decode()
    return "".join(c if c in KEPT or unicodedata.category(c) not in ("Cc", "Cf") else "\ufffd" for c in whole)


def element(name: str, /, *children: str, **attributes: str) -> Markup:
    """An element; plain text and attribute values are escaped, `class_` and `aria_label` read as HTML spells them."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(clean(value))}"' for key, value in attributes.items()
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    inner = "".join(c if isinstance(c, Markup) else html.escape(clean(c), quote=False) for c in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")


def join(parts: Iterable[Markup]) -> Markup:
    """Finished pieces, one a line."""
    return Markup("\n".join(part for part in parts if part))


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], label: str, stacked: bool = False) -> Markup:
    """A table in a box of its own that scrolls sideways; the first cell of a row heads it, `label` names it.

    stacked: on a narrow screen each row becomes a block of lines `heading: figure`, and nothing scrolls.
    """
    head = element("tr", *(element("th", text, scope="col", class_=kind) for text, kind in columns))
    body = []
    for row in rows:
        cells = [
            element("td", cell, class_=kind, **({"data_label": name} if stacked else {}))
            if index
            else element("th", cell, scope="row", class_=kind)
            for index, (cell, (name, kind)) in enumerate(zip(row, columns, strict=True))
        ]
        body.append(element("tr", *cells))
    whole = element("table", element("thead", head), element("tbody", join(body)))
    # Focusable, so that a keyboard can scroll it.
    kind = "box stacked" if stacked else "box"
    return element("div", whole, class_=kind, role="region", aria_label=label, tabindex="0")


def format_count(number: int) -> str:
    """`46 881 792`, with narrow no-break spaces."""
    return f"{number:,}".replace(",", GROUP)


def format_megabytes(number: int) -> str:
    """Bytes as megabytes of 10^6 bytes: `58.7`; three digits below 10 MB."""
    value = number / 1e6
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return format_count(int(value)) + f"{value % 1:.1f}"[1:] if value >= 1000 else f"{value:.{digits}f}"


def format_percent(part: float, whole: float) -> str:
    """`65.3`, without the sign."""
    return f"{100 * part / whole:.1f}" if whole else NONE


def format_points(difference: float) -> str:
    """A difference of fractions in percentage points, signed: `−0.4`, `+0.1`, `0.0`."""
    rounded = round(100 * difference, 2)
    return f"{rounded:+.2f}".replace("-", "−") if rounded else "0.00"


def format_error(value: float) -> str:
    """Three digits: `0.0111`, or `2.61e−7` for the small."""
    if not math.isfinite(value):
        return str(value)
    if value and abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return f"{value:.3g}"


def format_ms(value: float) -> str:
    """Milliseconds: `123`, `12.3`, `1.23`, `0.123`."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"
