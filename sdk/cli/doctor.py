"""`ferrule doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import click

import ferrule
from ferrule.cli.output import EXIT_NONE, json_option, megabytes, print_json, print_table, status_text
from ferrule.errors import FerruleError

__all__ = ["command"]

CORE = ("numpy", "click", "rich", "safetensors", "psutil", "yaml")


@click.command("doctor")
@json_option
def command(as_json: bool) -> int:
    """Tell what is installed here, what is missing and what it would give, and what is known to make trouble.

    \b
    ferrule doctor
    ferrule doctor --json > doctor.json        # to go with a question

    Exit code: 0 when the core works, 1 otherwise; missing extras are no fault.
    """
    found = examine()
    if as_json:
        print_json(found)
    else:
        _print(found)
    return EXIT_NONE if found["core"]["problems"] else 0


def examine() -> dict[str, Any]:
    """Everything that the command tells, as plain data."""
    from ferrule.converters import TARGETS, missing_packages
    from ferrule.installed import extras, install_command, machine, troubles

    here = machine()
    return {
        "ferrule": ferrule.__version__,
        "folder": str(Path(ferrule.__file__).parent),
        "machine": here,
        "core": {"problems": _core_problems()},
        "native": _native(),
        "packages": _packages(),
        "targets": {name: not missing_packages(row) for name, row in TARGETS.items()},
        "extras": [
            {
                "name": extra.name,
                "installed": extra.installed,
                "missing": [p.name for p in extra.packages if p.version is None],
                "gives": extra.gives,
                "install": install_command(extra.name),
            }
            for extra in extras()
        ],
        "cache": _cache(),
        "troubles": [{"what": what, "advice": advice} for what, advice in troubles(here["cores"])],
    }


def _core_problems() -> list[str]:
    """What stops even `ferrule devices`; nothing on a sound installation."""
    from ferrule.catalog import TECHNIQUES
    from ferrule.device_profiles import load, names
    from ferrule.recipe import load_recipe, preset_names

    checks: list[tuple[str, Callable[[str], object], Iterable[str]]] = [
        ("package", import_module, CORE),
        ("device profile", load, names()),
        ("technique", lambda name: TECHNIQUES[name].options_type(), TECHNIQUES),
        ("recipe", load_recipe, preset_names()),
    ]
    problems = []
    for what, check, items in checks:
        for item in items:
            try:
                check(item)
            except Exception as error:  # a damaged installation can raise anything; that is what is looked for
                problems.append(f"{what} {item}: {type(error).__name__}: {error}")
    return problems


def _native() -> dict[str, Any]:
    """Whether the compiled kernels load, and the instruction set that they use here."""
    try:
        kernels = import_module("ferrule.runtime._C")
        return {"loaded": True, "isa": kernels.active_isa(), "isas": kernels.isas(), "reason": None}
    except (ImportError, ValueError) as error:
        return {"loaded": False, "isa": None, "isas": [], "reason": str(error)}


def _packages() -> list[dict[str, Any]]:
    """Every distribution that an extra for users asks for, once."""
    from ferrule.installed import extras

    rows = {p.name: p for extra in extras() if extra.name != "dev" for p in extra.packages}
    return [asdict(row) for _, row in sorted(rows.items(), key=lambda item: item[0].lower())]


def _cache() -> dict[str, Any]:
    """Folder and size of the store of built parts; no folder where it is off or cannot be written."""
    from ferrule.cache import open_store, usage

    try:
        store = open_store()
    except FerruleError as error:
        return {"folder": None, "bytes": 0, "reason": error.message}
    if store is None:
        return {"folder": None, "bytes": 0, "reason": "off, or its folder cannot be written"}
    return {"folder": str(store.root), "bytes": sum(row["bytes"] for row in usage(store).values()), "reason": None}


def _print(found: Mapping[str, Any]) -> None:
    here, native, cache = found["machine"], found["native"], found["cache"]
    native_line = (
        f"loaded, uses {native['isa']} of {', '.join(native['isas'])}"
        if native["loaded"]
        else f"not loaded ({native['reason']}); everything but the native kernels works without it"
    )
    lines = {
        "Ferrule": f"{found['ferrule']} in {found['folder']}",
        "Python": f"{here['python']} ({here['executable']})",
        "system": here["platform"],
        "processor": f"{here['cpu']}, {here['cores']} cores, {' '.join(here['features']) or 'features unknown'}",
        "memory": f"{here['memory_gb']} GB, {here['memory_free_gb']} GB free",
        "temporary files": f"{here['temporary']}, {here['temporary_free_gb']} GB free",
        "native kernels": native_line,
        "cache": f"{cache['folder']}, {megabytes(cache['bytes'])} MB" if cache["folder"] else cache["reason"],
        "core": "works" if not found["core"]["problems"] else "DOES NOT WORK",
    }
    for name, text in lines.items():
        click.echo(f"{name:<16} {text}")
    for problem in found["core"]["problems"]:
        click.echo(f"{'':<16} {problem}")
    packages = [[p["name"], p["version"] or "–", p["wanted"], _verdict(p)] for p in found["packages"]]
    print_table("", ["package", "version", "wanted", ""], packages)
    rows = [
        [extra["name"], status_text("ok" if extra["installed"] else "missing"), extra["gives"], _command(extra)]
        for extra in found["extras"]
    ]
    print_table("", ["extra", "", "gives", "to install"], rows)
    if not rows:
        click.echo("extras: unknown, because Ferrule runs here without being installed by pip")
    for trouble in found["troubles"]:
        click.echo(f"trouble  {trouble['what']}\n         {trouble['advice']}")
    if not found["troubles"]:
        click.echo("no known trouble")


def _verdict(package: Mapping[str, Any]) -> str:
    return "missing" if package["version"] is None else "other version" if package["fits"] is False else "ok"


def _command(extra: Mapping[str, Any]) -> str:
    return "" if extra["installed"] else extra["install"]
