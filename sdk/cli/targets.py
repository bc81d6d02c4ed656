"""`ferrule targets`."""

from __future__ import annotations

import click

from ferrule.cli.output import json_option, print_json, print_table

__all__ = ["command"]


@click.command("targets")
@json_option
def command(as_json: bool) -> int:
    """List the targets, and whether the toolkit of each is installed here.

    \b
    ferrule targets --json
    """
    from ferrule.converters import ALIASES, TARGETS, missing_packages

    rows = [
        {
            "name": row.name,
            "file": row.file,
            "summary": row.summary,
            "aliases": [alias for alias, name in ALIASES.items() if name == row.name],
            "installed": not missing_packages(row),
            "install": ", ".join(f"ferrule[{extra}]" for extra in row.extra.split(",")),
        }
        for row in TARGETS.values()
    ]
    if as_json:
        print_json(rows)
        return 0
    table = [
        [
            str(r["name"]),
            str(r["file"]),
            "yes" if r["installed"] else f"pip install '{r['install']}'",
            str(r["summary"]),
        ]
        for r in rows
    ]
    print_table("", ["name", "file", "installed", "what it is"], table)
    return 0
