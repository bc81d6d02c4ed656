"""Write the generated parts of docs/commands/*.md (usage and options of each command) and the lists of docs/README.md.

    python tools/command_pages.py

The block stands between `<!-- usage -->` and `<!-- /usage -->`, prose around it stays as it is; a command without a
page gets one from its help text. A test asserts that the pages are what this writes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

from ferrule.catalog import TECHNIQUES
from ferrule.cli.main import COMMANDS
from ferrule.converters import TARGETS

PAGES = Path(__file__).resolve().parent.parent / "docs" / "commands"
BLOCK = re.compile(r"<!-- usage -->\n.*?<!-- /usage -->", re.DOTALL)
COMMON = ("--quiet", "--verbose", "--log", "--help")


def find_command(name: str) -> click.Command:
    """The click command behind a name."""
    command: click.Command = import_module(f"ferrule.cli.{name}").command
    return command


def parts(name: str) -> Iterator[tuple[str, click.Command]]:
    """The command, and below a group its commands, with the words that call each."""
    command = find_command(name)
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            yield f"{name} {child}", command.commands[child]
    else:
        yield name, command


def usage(name: str) -> str:
    """Usage line and table of options of a command and those below it."""
    blocks = []
    for words, command in parts(name):
        arguments = " ".join(p.make_metavar(click.Context(command)) for p in command.params if _is_argument(p))
        rows = [_row(p) for p in command.params if isinstance(p, click.Option) and not set(p.opts) & set(COMMON)]
        table = "\n".join(["| option | what it does |", "|---|---|", *rows])
        blocks.append(
            f"```\nferrule {f'{words} [OPTIONS] {arguments}'.rstrip()}\n```\n" + (f"\n{table}\n" if rows else "")
        )
    return "<!-- usage -->\n" + "\n".join(blocks) + "<!-- /usage -->"


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = "" if option.is_flag else f" `{option.make_metavar(click.Context(click.Command('x')))}`"
    notes = []
    if option.required:
        notes.append("required")
    if option.show_default and not option.is_flag and option.default is not None:
        notes.append(f"default `{option.default}`")
    help_text = (option.help or "").replace("  [", " [").replace("|", "\\|")
    note = f" ({', '.join(notes)})" if notes else ""
    return f"| {names}{value} | {help_text}{note} |"


def render(name: str, text: str | None) -> str:
    """The page with its block made anew; a first page where there is none."""
    if text is None:
        told = inspect.cleandoc(find_command(name).help or "").replace("\b\n", "").strip()
        text = f"# ferrule {name}\n\n{told.partition(chr(10) * 2)[0]}\n\n<!-- usage -->\n<!-- /usage -->\n"
    return BLOCK.sub(lambda _: usage(name), text)


def render_index(text: str) -> str:
    """docs/README.md with its lists of commands, targets and techniques made anew."""
    commands = [f"| [ferrule {name}](commands/{name}.md) | {told} |" for name, told in sorted(COMMANDS.items())]
    targets = [f"| [{row.name}](targets/{row.name}.md) | {row.summary} |" for row in TARGETS.values()]
    techniques = [f"| [{row.name}](techniques/{row.name}.md) | {row.summary} |" for row in TECHNIQUES.values()]
    for name, head, rows in (
        ("commands", "command", commands),
        ("targets", "target", targets),
        ("techniques", "technique", techniques),
    ):
        table = "\n".join(
            [f"| {head} | what it does |" if head != "target" else "| target | what it is |", "|---|---|", *rows]
        )
        text = re.sub(
            f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.DOTALL
        )
    return text


def main() -> None:
    index = PAGES.parent / "README.md"
    index.write_text(render_index(index.read_text()))
    for name in COMMANDS:
        page = PAGES / f"{name}.md"
        page.write_text(render(name, page.read_text() if page.is_file() else None))


if __name__ == "__main__":
    main()
