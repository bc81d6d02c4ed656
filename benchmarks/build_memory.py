"""Peak memory of `ferrule build`: the whole tree of processes, sampled while it runs.

    python benchmarks/build_memory.py [RECIPE] [DEVICE:TARGET …]

Prints JSON. `pss_mb` counts a page that several processes share once (proportional set sizes), `rss_mb` counts
it in each; the bar is 3 × the float32 model + 2 GB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

MODEL, MODEL_MB = "sample:minilm", 90.9  # float32 weights
DEFAULT = (
    "pixel-9:litert",
    "galaxy-s24:executorch",
    "iphone-15-pro:coreml",
    "macbook-air-m2:executorch-coreml",
    "raspberry-pi-5:onnx",
)


def tree_memory(root: psutil.Process) -> tuple[float, float, float]:
    """Sums of PSS and RSS of a process and its descendants, and the RSS of the largest, in MB."""
    pss = rss = largest = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            full = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        pss += full.pss / 1e6
        rss += full.rss / 1e6
        largest = max(largest, full.rss / 1e6)
    return pss, rss, largest


def main(recipe: str, devices: list[str]) -> dict[str, object]:
    """Run one build and sample it four times a second."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-c", "from ferrule.cli import main; main()", "build", MODEL]
        command += ["--recipe", recipe, "-o", out, "--json"]
        for device in devices:
            command += ["--device", device]
        start = time.perf_counter()
        with (Path(out) / "stdout").open("w") as stdout:
            environment = {**os.environ, "FERRULE_CACHE": "off"}  # else nothing would be built the second time
            process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL, env=environment)
        root = psutil.Process(process.pid)
        peaks = [0.0, 0.0, 0.0]
        while process.poll() is None:
            try:
                peaks = [max(a, b) for a, b in zip(peaks, tree_memory(root), strict=True)]
            except psutil.NoSuchProcess:
                break
            time.sleep(0.25)
        process.wait()
        rows = json.loads((Path(out) / "stdout").read_text())
    return {
        "command": f"python benchmarks/build_memory.py {recipe}",
        "pss_mb": round(peaks[0]),
        "rss_mb": round(peaks[1]),
        "largest_process_rss_mb": round(peaks[2]),
        "bar_mb": round(3 * MODEL_MB + 2000),
        "seconds": round(time.perf_counter() - start, 1),
        "status": {f"{row['device']}:{row['target']}": row["status"] for row in rows},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1] if len(sys.argv) > 1 else "w8a8", sys.argv[2:] or list(DEFAULT)), indent=1))
