"""Devices as data: one JSON file each, every fact with its value, unit, source, confidence and date.

profile = load("iphone-15-pro")
target = choose_target(profile, None)
check_format(profile, target, "int4-block")
"""

from __future__ import annotations

from ferrule.device_profiles.load import check_format, choose_target, load, load_file, names
from ferrule.device_profiles.profile import (
    Accelerator,
    CpuCluster,
    DeviceProfile,
    Fact,
    Format,
    TargetSupport,
    iter_facts,
)
from ferrule.device_profiles.write import to_data, to_json

__all__ = [
    "Accelerator",
    "CpuCluster",
    "DeviceProfile",
    "Fact",
    "Format",
    "TargetSupport",
    "check_format",
    "choose_target",
    "iter_facts",
    "load",
    "load_file",
    "names",
    "to_data",
    "to_json",
]
