"""The chart of `ferrule bench kernels`: how many times faster than each peer."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferrule.report.canvas import COLOURS, INK, LINE, PAGE, SETTINGS, SOFT, make_figure

__all__ = ["draw_ratios"]

MARKS = {
    "torch": ("--m-1", "o"),
    "onnxruntime": ("--m-2", "s"),
    "openvino": ("--m-3", "^"),
    "llama.cpp": ("--m-4", "D"),
}
OTHER = ("--m-5", "v")


def draw_ratios(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line for each case and number of threads, a mark for each peer, on a logarithmic axis; .svg or .png.

    Written beside its place, then renamed. Raises OSError.
    """
    from matplotlib import rc_context

    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["peer"] is not None:
            name = f"{row['op']} {row['shape']} {row['dtype']}, {row['threads']} T"
            groups.setdefault(name, []).append(row)
    handle, name = tempfile.mkstemp(prefix=".ferrule-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        with rc_context(SETTINGS):
            _draw(partial, groups)
        partial.chmod(0o644)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _draw(path: Path, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    figure, axes = make_figure(0.3 * len(groups) + 1.2)
    figure.set_facecolor(PAGE)
    figure.set_figwidth(7.2)
    axes.set_facecolor(PAGE)
    drawn: dict[str, Any] = {}
    for place, rows in enumerate(groups.values()):
        ratios = [row["ratio"] for row in rows]
        axes.plot([min(*ratios, 1), max(*ratios, 1)], [place, place], color=LINE, linewidth=1.2, zorder=1)
        for row in rows:
            colour, mark = MARKS.get(row["peer"].partition(" ")[0], OTHER)
            (key,) = axes.plot([row["ratio"]], [place], mark, markersize=5, color=COLOURS[colour], zorder=2)
            drawn.setdefault(row["peer"].partition(" ")[0], key)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.tick_params(axis="y", labelcolor=SOFT, labelsize=7.5)
    axes.set_xlabel("peer's time by ours (logarithmic); right of 1 ours is faster")
    low, high = (round(math.log2(value)) for value in axes.get_xlim())
    ticks = [2.0**power for power in range(low, high + 1, 1 + (high - low) // 10)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    if drawn:
        figure.legend(list(drawn.values()), list(drawn), loc="outside upper left", ncols=len(drawn), frameon=False)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
