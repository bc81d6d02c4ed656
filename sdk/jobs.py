"""Run lowering jobs in worker processes, two at a time, and turn whatever happens into outcomes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.errors import FerruleError, LoweringError, by_code
from ferrule.program import Program

__all__ = ["WORKERS", "Event", "Job", "Outcome", "Progress", "kill", "last_words", "run_jobs"]

WORKERS = 2


@dataclass(frozen=True)
class Job:
    """One lowering. folder: its own, empty; graphs: what `write_graphs` wrote; proof: a file of `save_proof`."""

    device: str
    target: str
    recipe: str
    folder: Path
    graphs: Path
    proof: Path
    min_cosine: float
    expand: bool = False


@dataclass(frozen=True)
class Event:
    """A step of one job: phase `waiting`, `loading`, `lowering`, `proving`, `packing`, and at the end `done`,
    `refused` or `failed`."""

    device: str
    target: str
    recipe: str
    phase: str
    done: int = 0
    total: int = 0


Progress = Callable[[Event], None]


@dataclass(frozen=True)
class Outcome:
    """What a worker left: a program, or an error; wall seconds."""

    job: Job
    program: Program | None
    error: FerruleError | None
    seconds: float


def run_jobs(jobs: Sequence[Job], progress: Progress | None = None) -> Generator[Outcome, None, None]:
    """Outcomes as jobs end. Closing the iterator, or Ctrl-C, kills the workers that still run."""
    running: set[subprocess.Popen[str]] = set()
    lock = threading.Lock()
    stopped = threading.Event()

    def run(job: Job) -> Outcome:
        return _run(job, progress, running, lock, stopped)

    with ThreadPoolExecutor(WORKERS) as pool:
        pending = {pool.submit(run, job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            with lock:
                stopped.set()
                for process in running:
                    kill(process)


def _run(
    job: Job,
    progress: Progress | None,
    running: set[subprocess.Popen[str]],
    lock: threading.Lock,
    stopped: threading.Event,
) -> Outcome:
    job.folder.mkdir(parents=True, exist_ok=True)
    description: dict[str, Any] = {
        "device": job.device,
        "target": job.target,
        "graphs": str(job.graphs),
        "proof": str(job.proof),
        "min_cosine": job.min_cosine,
        "expand": job.expand,
    }
    (job.folder / "job.json").write_text(json.dumps(description))
    start = time.perf_counter()
    # Under the lock, so that no worker starts after the others were killed.
    with lock:
        if stopped.is_set():
            return Outcome(job, None, LoweringError("FER-LOW-011", "The build was interrupted."), 0.0)
        process = _start(job)
        running.add(process)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            _report(job, line, progress)
        code = process.wait()
    finally:
        if process.poll() is None:  # `progress` raised: nobody would wait for this worker
            kill(process)
            process.wait()
        with lock:
            running.discard(process)
        if process.stdout is not None:
            process.stdout.close()
    return _read_outcome(job, code, time.perf_counter() - start)


def _start(job: Job) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ferrule.worker", str(job.folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
        start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the workers in order
    )


def _environment() -> dict[str, str]:
    """The parent's, with a fixed hash seed: toolkits iterate over sets, and bundles must not depend on it.

    One thread each: lowering is Python, and OpenMP teams of two workers that spin on the same cores cost tenfold.
    """
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", "1")
    environment["PYTHONHASHSEED"] = "0"
    environment["TOKENIZERS_PARALLELISM"] = "false"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return environment


def _report(job: Job, line: str, progress: Progress | None) -> None:
    if progress is None:
        return
    try:
        step = json.loads(line)
        event = Event(job.device, job.target, job.recipe, step["phase"], step["done"], step["total"])
    except (ValueError, TypeError, KeyError):  # something wrote to the channel behind our back: not worth a build
        return
    progress(event)


def _read_outcome(job: Job, code: int, seconds: float) -> Outcome:
    path = job.folder / "result.json"
    if not path.is_file():
        how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        error = LoweringError(
            "FER-LOW-010",
            f"The worker of {job.target} {how}; its last words: {last_words(job.folder)}",
            "SIGKILL usually means that memory ran out.",
        )
        return Outcome(job, None, error, seconds)
    result = json.loads(path.read_text())
    if result["status"] != "ok":
        return Outcome(job, None, by_code(result["code"], result["reason"], result["hint"]), seconds)
    return Outcome(job, Program.from_json(result["program"], job.folder / "program"), None, seconds)


def last_words(folder: Path) -> str:
    """The last line of a process's log, for the message about its end."""
    log = folder / "log.txt"
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1][:300] if lines else "nothing"


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process that leads a group, with all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
