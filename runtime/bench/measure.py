"""Latency, load time and peak memory of a bundle on this machine."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.errors import by_code

if TYPE_CHECKING:
    from ferrule.runtime.profile import Profile

__all__ = ["Measurement", "host", "measure", "profile"]


@dataclass(frozen=True)
class Measurement:
    """latency_ms: p10, p25, p50, p75, p90, p99 of single calls, after warm-up.

    load_ms: opening the artefact, engine already imported. first_ms: the first call, before any warm-up.
    peak_rss_mb: of the whole process, Python and engine included. length: of the dynamic axis; None when static.
    """

    engine: str
    threads: int
    runs: int
    length: int | None
    latency_ms: dict[str, float]
    load_ms: float
    first_ms: float
    peak_rss_mb: float

    def to_json(self) -> dict[str, Any]:
        """Plain dict, what `ferrule measure --json` prints."""
        return asdict(self)


def measure(bundle: str | Path, *, threads: int = 1, runs: int = 50, length: int | None = None) -> Measurement:
    """Measure in a fresh process, so that the memory is the bundle's own.

    length: tokens (or whatever the dynamic axis is) of the input; by default the first proof input as it is. Raises
    BundleError, InputError, TargetError as a session would.
    """
    command = [sys.executable, "-m", "ferrule.runtime.bench.child", str(bundle), str(threads), str(runs)]
    if length is not None:
        command.append(str(length))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise by_code("FER-BUN-006", f"The measuring process of {bundle} ended with {done.returncode}: {last}")
    data = json.loads(lines[-1])
    if "code" in data:
        raise by_code(data["code"], data["message"], data["hint"])
    return Measurement(**data)


def profile(bundle: str | Path, *, threads: int = 1, runs: int = 50, length: int | None = None) -> Profile:
    """Times of the ops of the middle one of some runs, after warm-up, in this process; lengths as `measure` has them.

    Raises TargetError FER-TGT-005 where the engine cannot tell.
    """
    from ferrule.bundle import Bundle
    from ferrule.runtime.bench.child import WARM_UP, first_inputs
    from ferrule.runtime.session import Session

    inputs, _ = first_inputs(Bundle.open(bundle), length)
    with Session.open(bundle, threads) as session:
        for _ in range(WARM_UP):
            session.run(inputs)
        return session.profile(inputs, runs=runs)


def host() -> dict[str, Any]:
    """What machine the figures are of: processor, cores, system."""
    import os

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return {"cpu": name, "cores": os.cpu_count() or 1, "system": f"{platform.system()} {platform.machine()}"}
