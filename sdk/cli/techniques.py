"""`ferrule techniques`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from ferrule.cli.completion import complete_recipe
from ferrule.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from ferrule.catalog import Technique

__all__ = ["command"]


@click.command("techniques")
@click.argument("recipe", required=False, shell_complete=complete_recipe)
@json_option
def command(recipe: str | None, as_json: bool) -> int:
    """List the techniques with their options, defaults, and the targets that carry them; or show what RECIPE does.

    \b
    ferrule techniques
    ferrule techniques w8a8-emb8            # techniques joined by '-', a preset, or a .json file
    ferrule techniques w4g32 --json
    """
    from ferrule.catalog import TECHNIQUES

    if recipe is not None:
        return _show(recipe, as_json)
    rows = [_row(row) for row in TECHNIQUES.values()]
    if as_json:
        print_json(rows)
        return 0
    table = [
        [
            row["name"],
            row["kind"],
            row["summary"],
            ", ".join(f"{name}={value!r}" for name, value in row["options"].items()),
            ", ".join(row["targets"]),
        ]
        for row in rows
    ]
    print_table("", ["name", "kind", "what it does", "options", "targets"], table)
    return 0


def _show(spec: str, as_json: bool) -> int:
    """A recipe as a file would have it, and each of its steps."""
    from ferrule.catalog import TECHNIQUES
    from ferrule.recipe import load_recipe

    recipe = load_recipe(spec)
    steps = [
        {**_row(TECHNIQUES[s.technique]), "options": _row(TECHNIQUES[s.technique])["options"] | dict(s.options)}
        for s in recipe.steps
    ]
    if as_json:
        print_json({"recipe": recipe.to_json(), "steps": steps})
        return 0
    click.echo(f"{recipe.name}: lowest cosine {recipe.min_cosine}, {len(steps) or 'no'} steps")
    for number, step in enumerate(steps, 1):
        click.echo(f"{number}. {step['name']}: {step['summary']}{'; needs --calibrate' if step['needs_data'] else ''}")
        for name, value in step["options"].items():
            click.echo(f"   {name} = {value!r}")
        click.echo(f"   carried by {', '.join(step['targets'])}")
    return 0


def _row(row: Technique) -> dict[str, Any]:
    return {
        "name": row.name,
        "kind": row.kind,
        "summary": row.summary,
        "options": {f.name: f.default for f in fields(row.options_type())},
        "targets": list(row.targets),
        "paper": row.paper or None,
        "needs_data": row.needs_data,
    }
