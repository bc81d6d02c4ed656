"""What commands print: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ferrule.errors import FerruleError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "EXIT_INTERRUPTED",
    "EXIT_NONE",
    "EXIT_SOME",
    "EXIT_USAGE",
    "console",
    "json_option",
    "megabytes",
    "print_json",
    "print_table",
    "say_error",
]

EXIT_NONE, EXIT_USAGE, EXIT_SOME, EXIT_INTERRUPTED = 1, 2, 3, 130

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def console(stderr: bool = False) -> Console:
    """A rich console; colour only on terminals, and a fixed wide page where the output is not one."""
    from rich.console import Console

    plain = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return plain if plain.is_terminal else Console(stderr=stderr, highlight=False, width=140)


def print_json(data: Any) -> None:
    """JSON on standard output, indented."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """A table; `right` lists the columns that are aligned right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def say_error(error: FerruleError) -> None:
    """An error as `code: message` with its hint on a line of its own."""
    click.echo(f"error {error.code}: {error.message}", err=True)
    if error.hint:
        click.echo(f"  {error.hint}", err=True)


def megabytes(size: int | None) -> str:
    """Bytes as decimal megabytes, with more digits where there is less than one."""
    return "–" if size is None else f"{size / 1e6:.1f}" if size >= 1e6 else f"{size / 1e6:.3f}"
