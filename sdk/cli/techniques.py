"""`ferrule techniques`."""

from __future__ import annotations

from dataclasses import fields

import click

from ferrule.cli.output import json_option, print_json, print_table

__all__ = ["command"]


@click.command("techniques")
@json_option
def command(as_json: bool) -> int:
    """List the techniques, their options with defaults, and the targets that carry them.

    \b
    ferrule techniques
    ferrule build sample:minilm --recipe w8a8-emb8 --device pixel-9 -o out    # joined by '-'
    """
    from ferrule.catalog import TECHNIQUES

    rows = [
        {
            "name": row.name,
            "kind": row.kind,
            "summary": row.summary,
            "options": {f.name: f.default for f in fields(row.options_type())},
            "targets": list(row.targets),
            "paper": row.paper or None,
            "needs_data": row.needs_data,
        }
        for row in TECHNIQUES.values()
    ]
    if as_json:
        print_json(rows)
        return 0
    table = [
        [
            row.name,
            row.kind,
            row.summary,
            ", ".join(f"{f.name}={f.default!r}" for f in fields(row.options_type())),
            ", ".join(row.targets),
        ]
        for row in TECHNIQUES.values()
    ]
    print_table("", ["name", "kind", "what it does", "options", "targets"], table)
    return 0
