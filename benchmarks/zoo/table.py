"""docs/zoo.md from the outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_table"]

TARGETS = ("coreml", "executorch", "litert", "onnx")
BAR = 0.9
HEAD = """# The zoo

Architectures at toy size with random weights, drawn so that every layer matters (`benchmarks/zoo/lively.py`), each
converted to four targets and run there on several inputs. A figure is the lowest cosine to the eager float32 model
over all inputs and outputs; below 0.999 (0.99 for `w8a8`) a pair would stand here as wrong. *Contrast* is the lowest
such cosine, over targets, of what differs between inputs or positions: a constant answer would score 0 there.
`make zoo` builds what is not yet proven and writes this page; `docs/results/zoo.json` holds all figures and reasons.
"""


def write_table(rows: Mapping[str, Any], path: Path) -> int:
    """Write the page; 0 where at least nine pairs of ten are proven and none is wrong, else 1."""
    parts = [HEAD, _summary(rows), "## Planned before the first run\n", _table(rows, True)]
    if any(not row["planned"] for row in rows.values()):
        parts += ["## Tried afterwards, not planned\n", _table(rows, False)]
    path.write_text("\n".join([*parts, _reasons(rows)]).rstrip() + "\n")
    counts = _counts(rows)
    return int(counts["proven"] < BAR * counts.total() or counts["wrong"] > 0)


def _counts(rows: Mapping[str, Any]) -> Counter[str]:
    return Counter(outcome["status"] for row in rows.values() for outcome in row.get("fp", {}).values())


def _summary(rows: Mapping[str, Any]) -> str:
    counts = _counts(rows)
    share = 100 * counts["proven"] / max(1, counts.total())
    told = ", ".join(f"{counts[s]} {s}" for s in ("proven", "refused", "failed", "wrong"))
    return f"{len(rows)} architectures × 4 targets in float: {told} ({share:.1f} % proven).\n"


def _table(rows: Mapping[str, Any], planned: bool) -> str:
    lines = [
        f"| architecture | family | {' | '.join(TARGETS)} | contrast | onnx, w8a8 |",
        f"|{'---|' * (len(TARGETS) + 4)}",
    ]
    for name, row in rows.items():
        if row["planned"] == planned:
            fp, coded = row.get("fp", {}), row.get("w8a8", {})
            cells = [name, row["family"], *(_cell(fp.get(t)) for t in TARGETS), _lowest(fp), _cell(coded.get("onnx"))]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(outcome: Mapping[str, Any] | None) -> str:
    if outcome is None:
        return "–"
    if outcome["status"] == "proven":
        return f"{outcome['cosine']:.4f}"
    return f"**{outcome['status']}** {outcome['code'] or ''}".strip()


def _lowest(outcomes: Mapping[str, Any]) -> str:
    found = [outcome["contrast"] for outcome in outcomes.values() if "contrast" in outcome]
    return f"{min(found):.4f}" if found else "–"


def _reasons(rows: Mapping[str, Any]) -> str:
    lines = []
    for name, row in rows.items():
        for recipe in ("fp", "w8a8"):
            for target, outcome in row.get(recipe, {}).items():
                if outcome["status"] != "proven":
                    reason = " ".join(str(outcome["reason"]).split()).replace("|", "\\|")
                    lines.append(
                        f"- `{name}`, {target}, {recipe}: {outcome['status']}, {outcome['code'] or 'no code'}: {reason}"
                    )
    return "## Not proven, and why\n\n" + ("\n".join(lines) if lines else "Nothing.")
