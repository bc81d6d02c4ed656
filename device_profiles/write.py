"""DeviceProfile -> the JSON of its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ferrule.device_profiles.fields import FACT_KEYS
from ferrule.device_profiles.parse import SCHEMA
from ferrule.device_profiles.profile import Accelerator, DeviceProfile, Fact, TargetSupport

__all__ = ["to_data", "to_json"]


def to_data(profile: DeviceProfile) -> dict[str, Any]:
    """The profile as the JSON object of its file."""
    return {
        "schema": SCHEMA,
        "name": profile.name,
        "title": profile.title,
        "facts": {name: _fact_data(fact) for name, fact in profile.facts.items()},
        "cpu": [
            {part: _fact_data(getattr(cluster, part)) for part in ("core", "count", "clock", "isa")}
            for cluster in profile.cpu
        ],
        "accelerators": [_accelerator_data(unit) for unit in profile.accelerators],
        "default_target": _fact_data(profile.default_target),
        "targets": {name: _target_data(support) for name, support in profile.targets.items()},
    }


def _fact_data(fact: Fact) -> dict[str, Any]:
    data: dict[str, Any] = {name: getattr(fact, name) for name in FACT_KEYS}
    if isinstance(fact.value, tuple):
        data["value"] = list(fact.value)
    return data | ({"reason": fact.reason} if fact.reason else {})


def _accelerator_data(unit: Accelerator) -> dict[str, Any]:
    data = {"kind": unit.kind, "name": _fact_data(unit.name), "supports": _fact_data(unit.supports)}
    return data | ({} if unit.tops is None else {"tops": _fact_data(unit.tops)})


def _target_data(support: TargetSupport) -> dict[str, Any]:
    formats = {}
    for name, fmt in support.formats.items():
        formats[name] = {"accepted": _fact_data(fmt.accepted)}
        if fmt.needs_os is not None:
            formats[name]["needs_os"] = _fact_data(fmt.needs_os)
    units = {name: _fact_data(fact) for name, fact in support.units.items()}
    return {"runs": _fact_data(support.runs), "units": units, "formats": formats}


def to_json(profile: DeviceProfile) -> str:
    """The text of the profile's file: one line a fact, so that one changed fact is one changed line."""
    return _written(to_data(profile), "") + "\n"


def _written(data: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(data, list) and data:
        return "[\n" + ",\n".join(inner + _written(item, inner) for item in data) + f"\n{indent}]"
    if isinstance(data, Mapping) and data and "source" not in data:
        rows = (f"{inner}{json.dumps(name)}: {_written(item, inner)}" for name, item in data.items())
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    return json.dumps(data, ensure_ascii=False)
