"""What the library says while it works: records of the logger "ferrule"; library code never prints.

INFO tells a step of the work with its seconds, DEBUG repeats what a toolkit wrote, WARNING and ERROR what a user should
know. Nothing is shown unless the program that uses Ferrule asks for it, as the command line does:

    logging.getLogger("ferrule").setLevel(logging.INFO)
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrule.jobs import Event, Progress

__all__ = ["logger", "repeat_words", "with_steps"]

logger = logging.getLogger("ferrule")
logger.addHandler(logging.NullHandler())  # else Python itself prints the warnings of a library that nobody set up


def with_steps(progress: Progress | None) -> Progress:
    """The same callback, which also records each new phase of a job and the seconds of the one before."""
    began: dict[tuple[str, str, str], tuple[str, float]] = {}

    def on_event(event: Event) -> None:
        key = (event.device, event.target, event.recipe)
        before, since = began.get(key, ("", 0.0))
        if event.phase != before:
            now = time.perf_counter()
            began[key] = (event.phase, now)
            took = f" ({before} took {now - since:.1f} s)" if before else ""
            logger.info("%s:%s %s: %s%s", *key, event.phase, took)
        if progress is not None:
            progress(event)

    return on_event


def repeat_words(folder: Path, who: str) -> None:
    """Record the lines of a process's `log.txt`, where toolkits' output lands, as its words."""
    log = folder / "log.txt"
    if not logger.isEnabledFor(logging.DEBUG) or not log.is_file():
        return
    for line in log.read_text(errors="replace").splitlines():
        if line.strip():
            logger.debug("%s | %s", who, line.rstrip())
