"""What commands print: results on standard output, progress and errors on standard error, everything in a log file."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from ferrule.errors import FerruleError, OutputError
from ferrule.logs import logger

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_NONE",
    "EXIT_SOME",
    "EXIT_USAGE",
    "close_logs",
    "console",
    "has_colour",
    "is_quiet",
    "is_verbose",
    "json_option",
    "megabytes",
    "open_logs",
    "print_json",
    "print_table",
    "say_error",
    "status_text",
    "talk_options",
    "tell",
]

EXIT_NONE, EXIT_USAGE, EXIT_SOME, EXIT_INTERRUPTED = 1, 2, 3, 130
PIPE_WIDTH = 140
"""Columns of a table that no terminal shows."""

STATUS_STYLES = {"ok": "green", "refused": "yellow", "missing": "yellow", "failed": "red"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def talk_options() -> list[click.Option]:
    """`--quiet`, `--verbose` and `--log FILE`, which the group and each command take."""

    def option(names: list[str], **more: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_take, **more)

    return [
        option(["-q", "--quiet"], is_flag=True, help="Results and errors only."),
        option(["-v", "--verbose"], is_flag=True, help="Also what is done, with seconds, and the toolkits' words."),
        option(["--log"], type=click.Path(path_type=Path, dir_okay=False), help="Append everything to this file."),
    ]


def _take(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep one option in the root context, where the group's and the command's meet, and set the channel up anew."""
    if not value or context.resilient_parsing:
        return
    given = context.meta.setdefault("ferrule.talk", {})
    given[parameter.name] = value
    if given.get("quiet") and given.get("verbose"):
        raise click.UsageError("--quiet and --verbose exclude each other.", context)
    open_logs(given.get("quiet", False), given.get("verbose", False), given.get("log"))


def open_logs(quiet: bool = False, verbose: bool = False, log: Path | None = None) -> None:
    """Send the records of the logger "ferrule" to standard error and to a file; `close_logs` undoes it.

    Raises OutputError FER-OUT-001 where the file cannot be written.
    """
    close_logs()
    screen = _Screen()
    screen.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING)
    handlers: list[logging.Handler] = [screen]
    if log is not None:
        handlers.append(_open_file(log))
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose or log else logging.WARNING)


def close_logs() -> None:
    """Remove what `open_logs` added and close the file."""
    for handler in list(logger.handlers):
        if getattr(handler, "of_command_line", False):
            logger.removeHandler(handler)
            handler.close()
    logger.setLevel(logging.NOTSET)


def is_quiet() -> bool:
    """Whether the user asked for results and errors only."""
    return any(isinstance(h, _Screen) and h.level == logging.ERROR for h in logger.handlers)


def is_verbose() -> bool:
    """Whether steps appear as lines, so that bars would be torn by them."""
    return any(isinstance(h, _Screen) and h.level == logging.DEBUG for h in logger.handlers)


class _Screen(logging.Handler):
    """Records as plain lines on whatever standard error is now; those that were printed already are skipped."""

    of_command_line = True

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "printed", False):
            head = f"{record.levelname.lower()}  " if record.levelno >= logging.WARNING else ""
            click.echo(f"{head}{record.getMessage()}", err=True)


def _open_file(path: Path) -> logging.Handler:
    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise OutputError(
            "FER-OUT-001", f"Log file {path} cannot be written: {error.strerror or error}.", "Give another by --log."
        ) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    handler.of_command_line = True  # type: ignore[attr-defined]
    return handler


def tell(line: str) -> None:
    """A line about progress: on standard error unless quiet, and in the log file."""
    if not is_quiet():
        click.echo(line, err=True)
    logger.info(line, extra={"printed": True})


def has_colour(stream: TextIO) -> bool:
    """Colour only on terminals; NO_COLOR turns it off there, FORCE_COLOR on elsewhere (and `0` off)."""
    forced = os.environ.get("FORCE_COLOR", "")
    if os.environ.get("NO_COLOR") or forced == "0":
        return False
    return bool(forced) or stream.isatty()


def console(stderr: bool = False) -> Console:
    """A rich console that writes text as it is, on a fixed wide page where the output is no terminal.

    Standard error, which shows bars that move, gets colour on a terminal only: else a file would fill with codes.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    colour = has_colour(stream) and (terminal or not stderr)
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if terminal else PIPE_WIDTH,
        force_terminal=terminal or colour,
        force_interactive=terminal,
        color_system="auto" if colour else None,
    )


def print_json(data: Any) -> None:
    """JSON on standard output, indented."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], right: Sequence[int] = ()
) -> None:
    """A table; `right` lists the columns that are aligned right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def status_text(status: str) -> Text:
    """A status for a table: green, yellow or red where there is colour."""
    from rich.text import Text

    return Text(status, style=STATUS_STYLES.get(status.partition(" ")[0], ""))


def say_error(error: FerruleError) -> None:
    """An error as `error CODE: message` with its hint on a line of its own."""
    head = f"error {error.code}:"
    if has_colour(sys.stderr):
        head = f"\x1b[1;31m{head}\x1b[0m"
    # color=True: click would strip what `has_colour` has decided upon.
    click.echo(f"{head} {error.message}", err=True, color=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)
    logger.error("%s: %s %s", error.code, error.message, error.hint, extra={"printed": True})


def megabytes(size: int | None) -> str:
    """Bytes as decimal megabytes, with more digits where there is less than one."""
    return "–" if size is None else f"{size / 1e6:.1f}" if size >= 1e6 else f"{size / 1e6:.3f}"
