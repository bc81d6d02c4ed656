"""`ferrule cache`."""

from __future__ import annotations

import click

from ferrule.cli.output import json_option, megabytes, print_json, print_table

__all__ = ["command"]


@click.group("cache")
def command() -> None:
    """Look at or empty the folder where builds keep compressed models, artefacts and encodings.

    \b
    ferrule cache size
    ferrule cache clear

    FERRULE_CACHE names another folder, or is `off`; FERRULE_CACHE_LIMIT is the most that it holds (10GB).
    """


@command.command("size")
@json_option
def size(as_json: bool) -> int:
    """Show the folder, its limit, and entries and bytes of each kind."""
    from ferrule.cache import open_store, usage

    store = open_store()
    kinds = usage(store) if store is not None else {}
    total = {field: sum(row[field] for row in kinds.values()) for field in ("entries", "bytes")}
    if as_json:
        where = None if store is None else str(store.root)
        print_json({"folder": where, "limit_bytes": None if store is None else store.limit, "kinds": kinds, **total})
    elif store is None:
        click.echo("The cache is off, or its folder cannot be written.")
    else:
        click.echo(f"{store.root}, at most {megabytes(store.limit)} MB")
        rows = [[kind, str(row["entries"]), megabytes(row["bytes"])] for kind, row in (*kinds.items(), ("all", total))]
        print_table("", ["kind", "entries", "MB"], rows, (1, 2))
    return 0


@command.command("clear")
@json_option
def clear(as_json: bool) -> int:
    """Delete every entry that no build is using now."""
    from ferrule import cache

    store = cache.open_store()
    before = sum(row["bytes"] for row in cache.usage(store).values()) if store is not None else 0
    dropped, kept = cache.clear(store) if store is not None else (0, 0)
    after = sum(row["bytes"] for row in cache.usage(store).values()) if store is not None else 0
    if as_json:
        where = None if store is None else str(store.root)
        print_json({"folder": where, "dropped": dropped, "in_use": kept, "freed_bytes": before - after})
    elif store is None:
        click.echo("The cache is off, or its folder cannot be written.")
    else:
        busy = f", {kept} in use stay" if kept else ""
        click.echo(f"{store.root}: {dropped} entries dropped{busy}, {megabytes(before - after)} MB freed")
    return 0
