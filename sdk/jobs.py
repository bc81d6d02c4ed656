"""Run lowering jobs in worker processes, two at a time, and turn whatever happens into outcomes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferrule.cache import Entry, Store, find, keep
from ferrule.disk import full_disk, is_full
from ferrule.errors import FerruleError, LoweringError, ParityError, by_code
from ferrule.logs import logger, repeat_words
from ferrule.program import Program

__all__ = ["WORKERS", "Event", "Job", "Outcome", "Progress", "kill", "last_words", "run_jobs"]

WORKERS = 2


@dataclass(frozen=True)
class Job:
    """One lowering. folder: its own, empty; graphs: what `write_graphs` wrote; proof: a file of `save_proof`.

    key: that of the cache, or None for a lowering that is neither looked up nor kept.
    """

    device: str
    target: str
    recipe: str
    folder: Path
    graphs: Path
    proof: Path
    min_cosine: float
    expand: bool = False
    kernels: bool = False
    key: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Event:
    """A step of one job: phase `waiting`, `loading`, `lowering`, `proving` (or `cached` instead of these), `packing`,
    and at the end `done`, `refused` or `failed`."""

    device: str
    target: str
    recipe: str
    phase: str
    done: int = 0
    total: int = 0


Progress = Callable[[Event], None]


@dataclass(frozen=True)
class Outcome:
    """What a worker left, now or in an earlier build: a program, or an error; the wall seconds that it took.

    entry: that of the cache which holds the program's files. facts: `sha256` and `bytes` of those files.
    """

    job: Job
    program: Program | None
    error: FerruleError | None
    seconds: float
    entry: Entry | None = None
    facts: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)


def run_jobs(
    jobs: Sequence[Job], progress: Progress | None = None, store: Store | None = None
) -> Generator[Outcome, None, None]:
    """Outcomes as jobs end, taken from the cache where they are. Closing the iterator, or Ctrl-C, kills the workers."""
    running: set[subprocess.Popen[str]] = set()
    lock = threading.Lock()
    stopped = threading.Event()

    def run(job: Job) -> Outcome:
        known = _recall(job, store)
        if known is not None and progress is not None:
            progress(Event(job.device, job.target, job.recipe, "cached"))
        outcome = known or _remember(_run(job, progress, running, lock, stopped), store)
        return _hold_to_bound(outcome)

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


def _recall(job: Job, store: Store | None) -> Outcome | None:
    """The outcome of an earlier build."""
    if store is None or job.key is None:
        return None
    entry = find(store, "lowered", job.key)
    if entry is None:
        return None
    logger.info("%s:%s %s: artefact and parity come from the cache", job.device, job.target, job.recipe)
    root = entry.root / "program"
    facts = {entry.root / name: row for name, row in entry.files.items()}
    return Outcome(job, Program.from_json(entry.data["program"], root), None, entry.data["seconds"], entry, facts)


def _remember(outcome: Outcome, store: Store | None) -> Outcome:
    """Keep what a worker made, at once, so that a build which is killed later need not make it again."""
    program, job = outcome.program, outcome.job
    if store is None or job.key is None or program is None or program.root is None:
        return outcome
    files = {p.relative_to(program.root).as_posix(): p for p in program.root.rglob("*") if p.is_file()}
    keep(
        store,
        "lowered",
        job.key,
        {f"program/{name}": path for name, path in files.items()},
        {"program": program.to_json(), "seconds": round(outcome.seconds, 2)},
    )
    return outcome


def _hold_to_bound(outcome: Outcome) -> Outcome:
    """An outcome under its recipe's bound is an error: asked here, since a bound may change and the artefact not."""
    parity = outcome.program.parity if outcome.program is not None else None
    if parity is None or parity.cosine >= outcome.job.min_cosine:
        return outcome
    error = ParityError(
        "FER-PAR-001",
        f"Cosine to the eager float32 model is {parity.cosine:.4f} at its lowest over {parity.inputs} inputs "
        f"(conversion alone: {parity.fidelity:.4f}); the recipe asks for {outcome.job.min_cosine:.4f}.",
        "Choose a gentler recipe, give calibration data, or lower min_cosine in the recipe file; "
        "`ferrule check --locate --model SPEC --device DEVICE:TARGET` names the first op that diverges.",
    )
    return Outcome(outcome.job, None, error, outcome.seconds)


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
        "expand": job.expand,
        "kernels": job.kernels,
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
        for stream in (process.stdout, process.stdin):
            if stream is not None:
                stream.close()
    return _read_outcome(job, code, time.perf_counter() - start)


def _start(job: Job) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ferrule.worker", str(job.folder)],
        stdin=subprocess.PIPE,  # its end tells the worker that this process is gone, see `end_with_parent`
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
    repeat_words(job.folder, f"{job.device}:{job.target} {job.recipe}")
    path = job.folder / "result.json"
    if not path.is_file():
        how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        error: FerruleError = LoweringError(
            "FER-LOW-010",
            f"The worker of {job.target} {how}; its last words: {last_words(job.folder)}",
            "SIGKILL usually means that memory ran out.",
        )
        if is_full(None, job.folder):
            error = full_disk(job.folder, 2 * sum(p.stat().st_size for p in job.graphs.iterdir()))
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
