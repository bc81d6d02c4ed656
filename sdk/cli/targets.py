"""`ferrule targets`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ferrule.cli.completion import complete_target
from ferrule.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from ferrule.converters import Target

__all__ = ["command"]


@click.command("targets")
@click.argument("name", required=False, shell_complete=complete_target)
@json_option
def command(name: str | None, as_json: bool) -> int:
    """List the targets, and whether the toolkit of each is installed here; or show one with its devices.

    \b
    ferrule targets
    ferrule targets litert
    ferrule targets --json
    """
    from ferrule.converters import TARGETS, find_target

    if name is not None:
        row = {**_row(find_target(name)), **_reach(find_target(name).name)}
        if as_json:
            print_json(row)
            return 0
        for key, value in row.items():
            click.echo(f"{key:<12} {_text(value)}")
        return 0
    rows = [_row(target) for target in TARGETS.values()]
    if as_json:
        print_json(rows)
        return 0
    table = [
        [row["name"], row["file"], "yes" if row["installed"] else f"pip install '{row['install']}'", row["summary"]]
        for row in rows
    ]
    print_table("", ["name", "file", "installed", "what it is"], table)
    return 0


def _row(target: Target) -> dict[str, Any]:
    from ferrule.converters import ALIASES, missing_packages

    return {
        "name": target.name,
        "file": target.file,
        "summary": target.summary,
        "aliases": [alias for alias, name in ALIASES.items() if name == target.name],
        "installed": not missing_packages(target),
        "install": ", ".join(f"ferrule[{extra}]" for extra in target.extra.split(",")),
    }


def _reach(name: str) -> dict[str, Any]:
    """Devices that run the target, and techniques that it carries."""
    from ferrule.catalog import TECHNIQUES
    from ferrule.device_profiles import load, names

    return {
        "devices": [device for device in names() if name in load(device).running_targets()],
        "techniques": [row.name for row in TECHNIQUES.values() if name in row.targets],
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
