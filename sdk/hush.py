"""Keep toolkits' notices about themselves off the terminal, for the moment in which they are imported."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["hush"]

# torchao tells which GPU libraries it did not find; torch's pytree tells torchao what it will forbid some day.
LOGGERS = ("torchao", "torch.utils._pytree")


@contextmanager
def hush(*more: str) -> Iterator[None]:
    """Only errors of LOGGERS, and of the loggers named, are shown within; their levels are put back afterwards."""
    loggers = [logging.getLogger(name) for name in (*LOGGERS, *more)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
