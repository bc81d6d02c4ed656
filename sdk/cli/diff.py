"""`ferrule diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ferrule.cli.output import console, json_option, print_json, print_table, say_error
from ferrule.errors import FerruleError

if TYPE_CHECKING:
    from rich.text import Text

    from ferrule.compare import Line
    from ferrule.difference import Difference, Pair

__all__ = ["command"]

SAME, DIFFERENT, TROUBLE = 0, 1, 2


@click.command("diff")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--measure", is_flag=True, help="Time both sides now, in turns, in place of measurements.json.")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 256), help="For --measure.")
@click.option("--runs", default=30, show_default=True, type=click.IntRange(1), help="Runs of each turn of --measure.")
@click.option("--length", type=click.IntRange(1), help="Length of the dynamic axis, for --measure.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Write an HTML page as well.")
@json_option
def command(
    a: Path,
    b: Path,
    measure: bool,
    threads: int,
    runs: int,
    length: int | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Compare two bundles, or two build folders target by target.

    Sizes, weights, ops and their units, entry points, parity, notes, recipe, tools and files; accuracy and latency too
    where accuracy.json and measurements.json lie beside the bundles. Those two are shown and never decide.

    \b
    ferrule diff out/net-fp-pixel-9-litert.ferrule out/net-w8a8-pixel-9-litert.ferrule
    ferrule diff out.old out.new -o difference.html
    ferrule diff a.ferrule b.ferrule.zip --measure --length 64 --json

    Exit code, as that of diff: 0 the same, 1 different, 2 trouble.
    """
    from ferrule.difference import diff
    from ferrule.report.difference import write_difference

    try:
        found = diff(a, b, measure=measure, threads=threads, runs=runs, length=length)
        page = write_difference(found, out) if out else None
    except FerruleError as error:
        say_error(error)
        return TROUBLE
    if as_json:
        print_json({**found.to_json(), "page": str(page) if page else None})
    else:
        _print(found)
        if page:
            click.echo(f"page: {page}")
    return SAME if found.same else DIFFERENT


def _print(found: Difference) -> None:
    from ferrule.report.difference import HOST

    changed = [pair for pair in found.pairs if not pair.same]
    for pair in found.pairs:
        if len(found.pairs) == 1 or not pair.same:
            _print_pair(pair)
    alike = len(found.pairs) - len(changed)
    screen = console()
    if any(line.section == "host latency" for pair in found.pairs for line in pair.lines):
        screen.print(HOST)
    screen.print(f"{alike} of {len(found.pairs)} targets are the same" if len(found.pairs) > 1 else _verdict(found))


def _verdict(found: Difference) -> str:
    return "the same" if found.same else "different"


def _print_pair(pair: Pair) -> None:
    """A table of what fits into columns, then the notes as lines of - and +."""
    from rich.text import Text

    from ferrule.report.difference import format_value, select_lines

    if pair.a is None or pair.b is None:
        console().print(
            Text(f"{'+' if pair.a is None else '-'} {pair.name}", style="green" if pair.a is None else "red")
        )
        return
    lines = select_lines(pair)
    rows: list[list[str | Text]] = [
        [line.section, line.name, *(format_value(side, line.unit) for side in (line.a, line.b)), _change(line)]
        for line in lines
        if line.section != "notes"
    ]
    print_table(pair.name, ["part", "what", "A", "B", "change"], rows, (4,))
    for line in lines:
        if line.section == "notes":
            sign, style = ("-", "red") if line.b is None else ("+", "green")
            console().print(Text(f"{sign} note: {line.a or line.b}", style=style))


def _change(line: Line) -> Text:
    """The change, green where it is for the better and red where for the worse."""
    from rich.text import Text

    from ferrule.report.difference import describe_change

    told = describe_change(line)
    if not told or not line.better:
        return Text(told)
    return Text(told, style="green" if told.startswith("+") == (line.better > 0) else "red")
