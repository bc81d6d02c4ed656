"""The measuring itself: one worker for each package, visited in rounds A B C A B C, medians with p10 and p90."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule.errors import TargetError
from ferrule.runtime.bench.kernels.case import OURS, PACKAGES, Case, package_of
from ferrule.runtime.bench.kernels.peaks import Peaks
from ferrule.runtime.bench.measure import host
from ferrule.runtime.bench.process import Process, until_interrupted

__all__ = ["Found", "bench_kernels"]


@dataclass
class Found:
    """What was measured. absent: peer -> why it is not among the rows; failed: (case, peer) -> what it raised.

    complete: whether all was measured.
    """

    complete: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    peaks: list[Peaks] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dict: what `ferrule bench kernels --json` prints."""
        return {
            "machine": host(),
            "complete": self.complete,
            "peaks": [each.to_json() for each in self.peaks],
            "versions": self.versions,
            "absent": self.absent,
            "failed": self.failed,
            "rows": self.rows,
        }


def bench_kernels(
    cases: Sequence[Case],
    peers: Sequence[str] = tuple(PACKAGES),
    threads: Sequence[int] = (1,),
    rounds: int = 15,
    tell: Callable[[str], None] = lambda line: None,
    keep: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Measure the cases beside the peers that are installed; `tell` gets a line for each case, `keep` what there is
    after it.

    Ctrl-C ends it early: then what there is comes back, incomplete. Raises TargetError FER-TGT-002 where the native
    kernels are not there.
    """
    found = Found()
    with until_interrupted(found):
        for count in threads:
            with ExitStack() as stack:
                processes = _start_all(peers, count, found, stack)
                for number, case in enumerate(cases, 1):
                    tell(f"{number}/{len(cases)}, {count} threads: {case.name}")
                    for package, process in processes.items():
                        if process.ended:  # by a crash in the last case, which is told there
                            processes[package] = stack.enter_context(_start(package, count))
                    _measure(case, processes, found.peaks[-1], rounds, found)
                    keep(found)
    return found


def _start_all(peers: Sequence[str], threads: int, found: Found, stack: ExitStack) -> dict[str, Process]:
    """Ours, which measures the machine's peaks first, and the peers that are installed."""
    ours = stack.enter_context(_start(OURS, threads))
    answer = ours.ask(do="peaks")
    if "error" in answer:
        raise TargetError(
            "FER-TGT-002",
            f"The native kernels cannot be used: {answer['error']}.",
            "Install a C++ compiler, then Ferrule again; `ferrule doctor` tells more.",
        )
    found.peaks.append(Peaks(**{**answer, "read_gbps": {int(block): rate for block, rate in answer["read_gbps"]}}))
    processes = {OURS: ours}
    for peer in peers:
        process = stack.enter_context(_start(peer, threads))
        answer = process.ask(do="version")
        if "error" in answer:
            found.absent[peer] = answer["error"]
        else:
            found.versions[peer] = answer["version"]
            processes[peer] = process
    return processes


def _start(package: str, threads: int) -> Process:
    return Process("ferrule.runtime.bench.kernels.worker", package, str(threads), threads=threads)


def _measure(case: Case, processes: dict[str, Process], peaks: Peaks, rounds: int, found: Found) -> None:
    ways = [way for way in case.ways if package_of(way) in processes]
    times: dict[str, list[float]] = {}
    for way in ways:
        answer = processes[package_of(way)].ask(do="prepare", case=case.name, way=way)
        if "error" in answer:
            found.failed[f"{case.name}, {way}"] = answer["error"]
        else:
            times[way] = []
    for _ in range(rounds):
        for way, samples in times.items():
            answer = processes[package_of(way)].ask(do="time", way=way)
            samples.append(answer.get("us", float("nan")))
    for process in processes.values():
        process.ask(do="forget")
    if OURS in times:
        found.rows += _rows(case, times, peaks)


def _rows(case: Case, times: dict[str, list[float]], peaks: Peaks) -> Iterator[dict[str, Any]]:
    """A row for each peer; one without a peer where there is none."""
    low, ours, high = (float(value) for value in np.nanpercentile(times[OURS], (10, 50, 90)))
    row = {
        "op": case.op,
        "shape": case.shape,
        "dtype": case.dtype,
        "threads": peaks.threads,
        "peer": None,
        "ours_us": round(ours, 2),
        "peer_us": None,
        "ratio": None,
        "roofline_share": round(peaks.limit_us(case.work) / ours, 3),
        "ours_p10_p90": [round(low, 2), round(high, 2)],
        "peer_p10_p90": None,
        "footprint_bytes": int(case.work.footprint),
        "note": case.notes.get(OURS, ""),
    }
    peers = [way for way in times if way != OURS]
    if not peers:
        yield row
    for way in peers:
        low, theirs, high = (float(value) for value in np.nanpercentile(times[way], (10, 50, 90)))
        yield row | {
            "peer": way,
            "peer_us": round(theirs, 2),
            "ratio": round(theirs / ours, 3),
            "peer_p10_p90": [round(low, 2), round(high, 2)],
            "note": case.notes.get(way, ""),
        }
