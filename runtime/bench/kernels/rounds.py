"""The measuring itself: one worker for each package, visited in rounds A B C A B C, medians with p10 and p90."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule.errors import TargetError
from ferrule.runtime.bench.kernels.case import OURS, PACKAGES, Case, package_of
from ferrule.runtime.bench.kernels.peaks import Peaks
from ferrule.runtime.bench.measure import host

__all__ = ["Found", "bench_kernels"]


@dataclass
class Found:
    """What was measured. absent: peer -> why it is not among the rows; failed: (case, peer) -> what it raised."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    peaks: list[Peaks] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dict: what `ferrule bench kernels --json` prints."""
        return {
            "machine": host(),
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
) -> Found:
    """Measure the cases beside the peers that are installed; `tell` gets a line for each case.

    Raises TargetError FER-TGT-002 where the native kernels are not there.
    """
    found = Found()
    for count in threads:
        with ExitStack() as stack:
            ours = stack.enter_context(_Process(OURS, count))
            answer = ours.ask(do="peaks")
            if "error" in answer:
                raise TargetError(
                    "FER-TGT-002",
                    f"The native kernels cannot be used: {answer['error']}.",
                    "Install a C++ compiler, then Ferrule again; `ferrule doctor` tells more.",
                )
            peaks = Peaks(**{**answer, "read_gbps": {int(block): rate for block, rate in answer["read_gbps"]}})
            found.peaks.append(peaks)
            processes = {OURS: ours}
            for peer in peers:
                process = stack.enter_context(_Process(peer, count))
                answer = process.ask(do="version")
                if "error" in answer:
                    found.absent[peer] = answer["error"]
                else:
                    found.versions[peer] = answer["version"]
                    processes[peer] = process
            for number, case in enumerate(cases, 1):
                tell(f"{number}/{len(cases)}, {count} threads: {case.name}")
                for package, process in processes.items():
                    if process.ended:  # by a crash in the last case, which is told there
                        processes[package] = stack.enter_context(_Process(package, count))
                _measure(case, processes, peaks, rounds, found)
    return found


def _measure(case: Case, processes: dict[str, _Process], peaks: Peaks, rounds: int, found: Found) -> None:
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


class _Process:
    """A worker; its answers to questions, an error where it ended.

    It is stopped out of its turn: a package whose threads spin while they wait (OpenMP's do for long) would take the
    cores from the one that is measured. It leads a group of processes, since a package may have started more.
    """

    def __init__(self, package: str, threads: int) -> None:
        # CI: OpenVINO then does not fork, at import, a process that reports its use.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CI": "true"}
        environment.pop("OMP_WAIT_POLICY", None)  # each peer waits as it does in an app of its own
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ferrule.runtime.bench.kernels.worker", package, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGKILL)  # which ends stopped processes too
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    @property
    def ended(self) -> bool:
        """Whether the worker is gone."""
        return self.process.poll() is not None

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def ask(self, **question: Any) -> dict[str, Any]:
        """One question, one answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self._signal(signal.SIGCONT)
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            self._signal(signal.SIGSTOP)
        except (BrokenPipeError, ValueError):
            line = ""
        if not line:
            return {"error": f"the process ended with {self.process.poll()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer
