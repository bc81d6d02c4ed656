"""`python -m benchmarks.zoo [NAME …]`: build what is not yet proven, an architecture to a process; write the table.

Outcomes are kept in docs/results/zoo.json; a pair that is proven there is not built again unless `--fresh` is given.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.zoo.table import write_table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "zoo.json"
TARGETS = ("coreml", "executorch", "litert", "onnx")
RECIPES = ("fp", "w8a8")
TIME_LIMIT = 900  # seconds for one architecture
LIST = """
import json
from benchmarks.zoo.entries import ENTRIES
fields = ("family", "extra", "coded")
print(json.dumps({name: {field: getattr(entry, field) for field in fields} for name, entry in ENTRIES.items()}))
"""


def main() -> int:
    """Exit code 0 once at least nine pairs of ten are proven and none is wrong."""
    arguments = _arguments()
    rows: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name, entry in _entries().items():
        if arguments.names and name not in arguments.names:
            continue
        row = rows.setdefault(name, {})
        row |= {"family": entry["family"], "planned": not entry["extra"]}
        for recipe in arguments.recipe or RECIPES:
            known = row.setdefault(recipe, {})
            proven = {t for t, outcome in known.items() if outcome["status"] == "proven" and not arguments.fresh}
            asked = TARGETS if recipe == "fp" else entry["coded"]
            missing = [t for t in asked if t in (arguments.target or TARGETS) and t not in proven]
            if missing:
                known |= _build(name, recipe, missing)
                _keep(rows)
    _keep(rows)
    return write_table(rows, ROOT / "docs" / "zoo.md")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all without")
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--recipe", action="append", choices=RECIPES)
    parser.add_argument("--fresh", action="store_true", help="build again what is proven")
    return parser.parse_args()


def _entries() -> dict[str, dict[str, Any]]:
    """What the table of entries says, asked of another process, so that this one stays small."""
    answer = subprocess.run([sys.executable, "-W", "ignore", "-c", LIST], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    entries: dict[str, dict[str, Any]] = json.loads(answer.stdout)
    return entries


def _build(name: str, recipe: str, targets: list[str]) -> dict[str, Any]:
    """One architecture in a process of its own: a crash there is an outcome here."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "outcome.json"
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks.zoo.run",
            name,
            recipe,
            ",".join(targets),
            str(path),
        ]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT)
            words = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        except subprocess.TimeoutExpired:
            words = f"no answer within {TIME_LIMIT} s"
        known = json.loads(path.read_text()) if path.is_file() else None
    outcomes: dict[str, Any] = known or {t: {"status": "failed", "code": None, "reason": words} for t in targets}
    for target, outcome in outcomes.items():
        figures = f"{outcome['cosine']:.6f} {outcome['contrast']:.6f}" if "cosine" in outcome else outcome["reason"]
        print(f"{name:18} {recipe:5} {target:11} {outcome['status']:8} {figures}", flush=True)
    print(f"{name:18} {time.perf_counter() - start:.0f} s", flush=True)
    return outcomes


def _keep(rows: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
