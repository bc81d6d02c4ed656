"""`ferrule devices`."""

from __future__ import annotations

from typing import Any

import click

from ferrule.cli.completion import complete_device
from ferrule.cli.output import json_option, print_json, print_table

__all__ = ["command"]


@click.command("devices")
@click.argument("name", required=False, shell_complete=complete_device)
@json_option
def command(name: str | None, as_json: bool) -> int:
    """List the device profiles, or every fact of one with its source, confidence and date.

    \b
    ferrule devices
    ferrule devices pixel-9
    """
    from ferrule.device_profiles import iter_facts, load, names, to_data

    if name is not None:
        profile = load(name)
        if as_json:
            print_json(to_data(profile))
            return 0
        rows = [
            [path, f"{fact.value} {fact.unit}".strip(), fact.confidence, fact.date, fact.source]
            for path, fact in iter_facts(profile)
        ]
        print_table(profile.title, ["fact", "value", "confidence", "date", "source"], rows)
        return 0
    profiles = [load(n) for n in names()]
    if as_json:
        print_json([_row(p) for p in profiles])
        return 0
    print_table(
        "",
        ["name", "device", "SoC", "RAM GB", "targets (default first)"],
        [[p["name"], p["title"], p["soc"], str(p["ram_gb"]), ", ".join(p["targets"])] for p in map(_row, profiles)],
        (3,),
    )
    return 0


def _row(profile: Any) -> dict[str, Any]:
    facts = profile.facts
    return {
        "name": profile.name,
        "title": profile.title,
        "soc": facts["soc"].value,
        "ram_gb": facts["ram_gb"].value,
        "default_target": profile.default_target.text(),
        "targets": profile.running_targets(),
    }
