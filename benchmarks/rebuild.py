"""Seconds of `ferrule build` with an empty cache and of the same build again, and whether the bundles are the same.

    python benchmarks/rebuild.py [OUT.json]

Builds MiniLM for five targets under w8a8, each time in a process of its own: with a fresh cache (`cold`), once more
into the same folder (`same_folder`), into a new one (`new_folder`), and then with another recipe file whose only change
is one layer pattern (`pattern`) and one whose only change is the bound (`bound`). The bar is 3 s for a second build.
"""

from __future__ import annotations

import filecmp
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = "sample:minilm"
DEVICES = (
    "pixel-9:litert",
    "galaxy-s24:executorch",
    "iphone-15-pro:coreml",
    "macbook-air-m2:executorch-coreml",
    "raspberry-pi-5:onnx",
)
BAR_SECONDS = 3.0
REPEATS = 3


def build(cache: Path, out: Path, recipe: str) -> tuple[float, list[dict[str, Any]]]:
    """Wall seconds of one build, from the start of the process to its end, and its rows."""
    command = [sys.executable, "-c", "from ferrule.cli import main; main()", "build", MODEL]
    command += ["--recipe", recipe, "-o", str(out), "--json"]
    for device in DEVICES:
        command += ["--device", device]
    environment = {**os.environ, "FERRULE_CACHE": str(cache)}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return time.perf_counter() - start, json.loads(done.stdout)


def same_tree(left: Path, right: Path) -> bool:
    """Whether two folders hold the same files with the same bytes."""
    names = sorted(str(p.relative_to(left)) for p in left.rglob("*") if p.is_file())
    if names != sorted(str(p.relative_to(right)) for p in right.rglob("*") if p.is_file()):
        return False
    return filecmp.cmpfiles(left, right, names, shallow=False) == (names, [], [])


def write_recipe(path: Path, skip: list[str], bound: float) -> str:
    """w8a8 with one layer pattern, under one name."""
    steps = [{"technique": "w8a8", "options": {"skip": skip}}]
    path.write_text(json.dumps({"name": "w8a8", "steps": steps, "min_cosine": bound}))
    return str(path)


def main() -> dict[str, Any]:
    """All builds, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cache, first = root / "cache", root / "first"
        cold, rows = build(cache, first, "w8a8")
        same = [build(cache, first, "w8a8") for _ in range(REPEATS)]
        fresh = [build(cache, root / f"again-{i}", "w8a8") for i in range(REPEATS)]
        identical = all(same_tree(first, root / f"again-{i}") for i in range(REPEATS))
        pattern = build(cache, root / "pattern", write_recipe(root / "a.json", ["*layer.0.attention*"], 0.99))
        bound = build(cache, root / "bound", write_recipe(root / "b.json", ["*layer.0.attention*"], 0.9))
    return {
        "command": "python benchmarks/rebuild.py docs/results/rebuild.json",
        "model": MODEL,
        "devices": list(DEVICES),
        "recipe": "w8a8",
        "bar_seconds": BAR_SECONDS,
        "cold_seconds": round(cold, 1),
        "same_folder_seconds": [round(seconds, 2) for seconds, _ in same],
        "new_folder_seconds": [round(seconds, 2) for seconds, _ in fresh],
        "identical_bytes": identical,
        "all_from_cache": all(row["cached"] for _, again in (*same, *fresh) for row in again),
        "pattern_changed": {"seconds": round(pattern[0], 1), "cached": sum(r["cached"] for r in pattern[1])},
        "bound_changed": {"seconds": round(bound[0], 2), "cached": sum(r["cached"] for r in bound[1])},
        "status": {f"{row['device']}:{row['target']}": row["status"] for row in rows},
    }


if __name__ == "__main__":
    figures = main()
    text = json.dumps(figures, indent=1)
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n")
    longest = max([*figures["same_folder_seconds"], *figures["new_folder_seconds"]])
    good = figures["identical_bytes"] and figures["all_from_cache"] and longest < BAR_SECONDS
    sys.exit(0 if good else f"the second build took {longest} s, or was not the same")
