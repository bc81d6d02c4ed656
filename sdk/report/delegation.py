"""Which unit runs which op: shares by unit, reasons with source lines, and the whole table folded away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ferrule.program import OpRow
from ferrule.report.markup import NONE, Markup, element, format_count, format_percent, join, table

__all__ = ["explain_unit", "show_delegation"]

UNITS = {"cpu": "CPU", "gpu": "GPU", "ane": "Apple's Neural Engine", "npu": "NPU"}
KERNELS = {
    "xnnpack": "XNNPACK",
    "portable": "ExecuTorch's own kernels, outside the delegate",
    "builtin": "LiteRT's own kernels, outside the delegate",
    "mlas": "ONNX Runtime's own kernels (MLAS)",
}
SHOWN_NAMES = 4


def explain_unit(unit: str) -> str:
    """A unit in words: `cpu:xnnpack` is one unit and its kernels, `ane|gpu|cpu` leaves the choice to the runtime."""
    parts = [_explain_part(part) for part in unit.split("|")]
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} or {parts[-1]}: the runtime chooses when it loads the model"


def _explain_part(part: str) -> str:
    unit, _, kernels = part.partition(":")
    name = UNITS.get(unit, unit)
    return f"{name}, by {KERNELS.get(kernels, kernels)}" if kernels else name


def show_delegation(number: int, ops: Sequence[OpRow]) -> Markup:
    """The shares of a target's ops by unit, then each op in `<details>`; `number` is the target's."""
    if not ops:
        return element("p", "The target gave no table of ops.")
    total = sum(op.count for op in ops)
    units = Counter[str]()
    for op in ops:
        units[op.unit] += op.count
    ranked = [unit for unit, _ in sorted(units.items(), key=lambda item: (-item[1], item[0]))]
    fold = element(
        "details",
        element("summary", f"Each op and its reason ({format_count(total)} ops in {len(ops)} rows)"),
        _list_ops(number, ops, ranked),
    )
    return join([_list_units(number, ops, ranked, units), _list_reasons(number, ops, ranked), fold])


def _list_units(number: int, ops: Sequence[OpRow], ranked: Sequence[str], units: Counter[str]) -> Markup:
    total = sum(units.values())
    columns = [("Unit", "t"), ("Ops", "n"), ("% of ops", "n"), ("Share", "g"), ("How known", "t"), ("Meaning", "w")]
    rows = [
        [
            unit,
            format_count(units[unit]),
            format_percent(units[unit], total),
            _bar(units[unit], total),
            _basis(ops, unit),
            explain_unit(unit),
        ]
        for unit in ranked
    ]
    return table(columns, rows, f"Ops by unit of target {number}")


def _list_reasons(number: int, ops: Sequence[OpRow], ranked: Sequence[str]) -> Markup:
    """Why ops run where they run, the most frequent reason of each unit first, with the user's lines that they do."""
    groups: dict[tuple[str, str], list[OpRow]] = {}
    for op in ops:
        groups.setdefault((op.unit, op.reason), []).append(op)
    order = {unit: place for place, unit in enumerate(ranked)}
    keys = sorted(groups, key=lambda key: (order[key[0]], -sum(op.count for op in groups[key]), key[1]))
    rows = [
        [
            unit,
            reason or NONE,
            format_count(sum(op.count for op in groups[unit, reason])),
            _most([(op.op, op.count) for op in groups[unit, reason]]),
            _most([(op.source, op.count) for op in groups[unit, reason] if op.source]),
        ]
        for unit, reason in keys
    ]
    columns = [("Unit", "t"), ("Reason", "w"), ("Ops", "n"), ("Which", "m"), ("Source lines", "m")]
    return table(columns, rows, f"Reasons of target {number}")


def _most(counted: Sequence[tuple[str, int]]) -> Markup:
    """The most frequent names with their counts, and how many names more there are."""
    totals = Counter[str]()
    for name, count in counted:
        totals[name] += count
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    shown = [element("code", f"{name} × {format_count(count)}") for name, count in ranked[:SHOWN_NAMES]]
    if len(ranked) > SHOWN_NAMES:
        shown.append(element("span", f"{len(ranked) - SHOWN_NAMES} more below"))
    return element("span", Markup(", ".join(shown))) if shown else Markup(NONE)


def _bar(part: int, whole: int) -> Markup:
    width = 100 * part / whole if whole else 0.0
    return element("span", class_="bar", style=f"width:{width:.1f}%", aria_hidden="true")


def _basis(ops: Sequence[OpRow], unit: str) -> str:
    """`measured`, or `measured (96), predicted (4)` where a unit's ops are known in different ways."""
    counts = Counter[str]()
    for op in ops:
        if op.unit == unit:
            counts[op.basis] += op.count
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{basis} ({format_count(count)})" for basis, count in sorted(counts.items()))


def _list_ops(number: int, ops: Sequence[OpRow], ranked: Sequence[str]) -> Markup:
    order = {unit: place for place, unit in enumerate(ranked)}
    rows = [
        [op.unit, element("code", op.op), format_count(op.count), op.reason, _source(op.source), op.basis]
        for op in sorted(ops, key=lambda op: (order[op.unit], -op.count, op.op, op.source, op.reason))
    ]
    columns = [("Unit", "t"), ("Op", "t"), ("Count", "n"), ("Reason", "w"), ("Source line", "t"), ("How known", "t")]
    return table(columns, rows, f"Ops of target {number}")


def _source(source: str) -> str:
    return element("code", source) if source else NONE
