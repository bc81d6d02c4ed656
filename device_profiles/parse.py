"""A device file's text -> DeviceProfile, strictly.

A key too many, a key missing, a value of another type or a fact without its source is refused (FER-DEV-003)
with the file, the field and what is allowed there, because a wrong fact would end up in somebody's report.
"""

from __future__ import annotations

import json
from typing import Any

from ferrule.device_profiles.fields import Fields, shown
from ferrule.device_profiles.profile import (
    FACTS,
    FORMATS,
    ISA_FEATURES,
    UNITS,
    Accelerator,
    CpuCluster,
    DeviceProfile,
    Fact,
    FactSpec,
    Format,
    TargetSupport,
)

__all__ = ["SCHEMA", "parse_profile"]

SCHEMA = 1

_TEXT, _TEXTS, _FLAG = FactSpec("text"), FactSpec("texts"), FactSpec("flag")
_CLUSTER = {
    "core": _TEXT,
    "count": FactSpec("number", "cores"),
    "clock": FactSpec("number", "GHz"),
    "isa": _TEXTS,
}


def parse_profile(text: str, origin: str) -> DeviceProfile:
    """Read a device file's text; `origin` names the file in errors. Raises DeviceError FER-DEV-003."""
    fields = Fields(origin)
    try:
        data = json.loads(text, object_pairs_hook=fields.unique, parse_constant=fields.no_constant)
    except (ValueError, RecursionError) as error:
        fields.refuse("", f"not JSON ({error})", "one JSON object")
    return _profile(fields, data)


def _profile(fields: Fields, data: Any) -> DeviceProfile:
    keys = ("schema", "name", "title", "facts", "cpu", "accelerators", "default_target", "targets")
    fields.keys(data, "", keys)
    if data["schema"] is True or data["schema"] != SCHEMA:
        fields.refuse("schema", f"found {shown(data['schema'])}", str(SCHEMA))
    accelerators = tuple(
        _accelerator(fields, item, f"accelerators[{i}]")
        for i, item in enumerate(_items(fields, data["accelerators"], "accelerators"))
    )
    reachable = ("cpu", *(unit.kind for unit in accelerators))
    profile = DeviceProfile(
        fields.slug(data["name"], "name"),
        fields.line(data["title"], "title"),
        _facts(fields, data["facts"]),
        tuple(_cluster(fields, item, f"cpu[{i}]") for i, item in enumerate(_items(fields, data["cpu"], "cpu"))),
        accelerators,
        fields.fact(data["default_target"], "default_target", _TEXT),
        _targets(fields, data["targets"], reachable),
    )
    _agree(fields, profile)
    return profile


def _items(fields: Fields, data: Any, path: str) -> list[Any]:
    if not isinstance(data, list) or (path == "cpu" and not data):
        fields.refuse(path, f"found {shown(data)}", "a list" + (", not empty" if path == "cpu" else ""))
    return data


def _facts(fields: Fields, data: Any) -> dict[str, Fact]:
    required = tuple(name for name, spec in FACTS.items() if spec.required)
    fields.keys(data, "facts", required, tuple(name for name in FACTS if name not in required))
    read = {name: fields.fact(data[name], f"facts.{name}", spec) for name, spec in FACTS.items() if name in data}
    for name in ("os_assumed", "os_current"):
        fields.version(data[name], f"facts.{name}")
    return read


def _cluster(fields: Fields, data: Any, path: str) -> CpuCluster:
    fields.keys(data, path, tuple(_CLUSTER))
    parts = {name: fields.fact(data[name], f"{path}.{name}", spec) for name, spec in _CLUSTER.items()}
    if not isinstance(parts["count"].value, int):
        fields.refuse(f"{path}.count.value", f"found {shown(parts['count'].value)}", "a whole number")
    for feature in parts["isa"].texts():
        fields.choice(feature, f"{path}.isa.value", ISA_FEATURES)
    return CpuCluster(**parts)


def _accelerator(fields: Fields, data: Any, path: str) -> Accelerator:
    fields.keys(data, path, ("kind", "name", "supports"), ("tops",))
    tops = FactSpec("number", "TOPS")
    return Accelerator(
        fields.choice(data["kind"], f"{path}.kind", UNITS[1:]),
        fields.fact(data["name"], f"{path}.name", _TEXT),
        fields.fact(data["supports"], f"{path}.supports", _TEXTS),
        fields.fact(data["tops"], f"{path}.tops", tops) if "tops" in data else None,
    )


def _targets(fields: Fields, data: Any, reachable: tuple[str, ...]) -> dict[str, TargetSupport]:
    if not isinstance(data, dict) or not data:
        fields.refuse("targets", f"found {shown(data)}", "an object that names at least one target")
    return {
        fields.slug(name, f"targets.{name}"): _target(fields, item, f"targets.{name}", reachable)
        for name, item in data.items()
    }


def _target(fields: Fields, data: Any, path: str, reachable: tuple[str, ...]) -> TargetSupport:
    fields.keys(data, path, ("runs", "units", "formats"))
    fields.keys(data["units"], f"{path}.units", (), reachable)
    fields.keys(data["formats"], f"{path}.formats", (), FORMATS)
    runs = fields.fact(data["runs"], f"{path}.runs", _FLAG)
    _reasoned(fields, runs, f"{path}.runs")
    if runs.flag() != bool(data["units"]):
        allowed = "at least one unit" if runs.flag() else "no unit, because the target does not run"
        fields.refuse(f"{path}.units", f"found {shown(data['units'])}", allowed)
    if data["formats"] and not runs.flag():
        fields.refuse(f"{path}.formats", "formats are listed", "none, because the target does not run")
    units = {name: fields.fact(item, f"{path}.units.{name}", _TEXT) for name, item in data["units"].items()}
    formats = {name: _format(fields, item, f"{path}.formats.{name}") for name, item in data["formats"].items()}
    return TargetSupport(runs, units, formats)


def _format(fields: Fields, data: Any, path: str) -> Format:
    fields.keys(data, path, ("accepted",), ("needs_os",))
    accepted = fields.fact(data["accepted"], f"{path}.accepted", _FLAG)
    _reasoned(fields, accepted, f"{path}.accepted")
    return Format(accepted, fields.version(data["needs_os"], f"{path}.needs_os") if "needs_os" in data else None)


def _reasoned(fields: Fields, fact: Fact, path: str) -> None:
    if not fact.flag() and not fact.reason:
        fields.refuse(f"{path}.reason", "the field is missing", "a reason, because the value is false")


def _agree(fields: Fields, profile: DeviceProfile) -> None:
    """Refuse facts that contradict each other."""
    ram = profile.facts["ram_gb"].number()
    variants = profile.facts["ram_variants_gb"].numbers()
    if ram != min(variants):
        fields.refuse("facts.ram_gb.value", f"found {ram}", f"the smallest of ram_variants_gb, {min(variants)}")
    for name in ("app_memory_mb", "app_memory_entitled_mb"):
        fact = profile.facts.get(name)
        if fact is not None and fact.number() > ram * 1024:
            allowed = f"at most the memory of the device, {ram * 1024:g}"
            fields.refuse(f"facts.{name}.value", f"found {fact.number():g}", allowed)
    running = [name for name, support in profile.targets.items() if support.runs.flag()]
    default = profile.default_target
    if default.value not in running:
        allowed = "a target that runs here: " + (", ".join(running) or "none is listed")
        fields.refuse("default_target.value", f"found {shown(default.value)}", allowed)
    if not default.reason:
        fields.refuse("default_target.reason", "the field is missing", "the reason for this choice")
