"""Measuring processes: a line of JSON asks, a line answers; each is stopped while another is at work."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Found", "Process", "command_line", "pin", "serve", "until_interrupted"]

_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h


class Found(Protocol):
    """What a benchmark measured so far; `complete` once nothing is left to measure."""

    complete: bool


def command_line(*words: str) -> str:
    """The command that measured, as results tell it: no folders of this machine, of absolute paths the last part."""
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in words)


@contextmanager
def until_interrupted(found: Found) -> Iterator[None]:
    """Leave the block early at Ctrl-C: processes opened within end, and what was found stays incomplete."""
    with suppress(KeyboardInterrupt):
        yield
        found.complete = True


class Process:
    """`python -m MODULE ARGUMENTS`, which calls `serve`; its answers to questions, an error where it ended.

    It is stopped out of its turn: a package whose threads spin while they wait (OpenMP's do for long) would take the
    cores from the one that is measured. It leads a group of processes, since a package may have started more.
    """

    def __init__(self, module: str, *arguments: str, threads: int) -> None:
        # CI: OpenVINO then does not fork, at import, a process that reports its use.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CI": "true"}
        environment.pop("OMP_WAIT_POLICY", None)  # each peer waits as it does in an app of its own
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> Process:
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
        """Whether the process is gone."""
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


def pin(threads: int) -> None:
    """Keep this process on as many processors as it has threads, the last ones: the first serve interrupts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def serve(make: Callable[[], Any]) -> None:
    """Answer until the input ends: `do` names a method of what `make` returned. Asked for nothing, it sleeps.

    What libraries print goes to standard error. On Linux the process ends with the one that asks, however that ended.
    """
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker: Any = None
    for line in sys.stdin:
        question = json.loads(line)
        try:
            worker = worker or make()
            answer = getattr(worker, question.pop("do"))(**question)
        except Exception as error:  # a peer can raise anything; the parent tells it and goes on
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _end_with_parent() -> None:
    """By the system, since a process that is stopped sees neither signals nor the end of its input."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
