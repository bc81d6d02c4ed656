"""Find a device, and say what it takes.

A device that cannot run a target, or cannot hold a format there, is refused before anything is converted.
"""

from __future__ import annotations

import os
from pathlib import Path

from ferrule.device_profiles.parse import parse_profile
from ferrule.device_profiles.profile import FORMATS, DeviceProfile, TargetSupport
from ferrule.errors import DeviceError

__all__ = ["check_format", "choose_target", "load", "load_file", "names"]

_DATA = Path(__file__).parent / "data"


def names() -> list[str]:
    """The names of the devices that ship with Ferrule, sorted."""
    return sorted(path.stem for path in _DATA.glob("*.json"))


def load(name: str) -> DeviceProfile:
    """The profile of a shipped device.

    Raises DeviceError: FER-DEV-001 for a name that is not known, FER-DEV-003 for a damaged file.
    """
    known = names()
    if name not in known:
        raise _unknown(name, known)
    return load_file(_DATA / f"{name}.json")


def load_file(path: str | os.PathLike[str]) -> DeviceProfile:
    """The profile in a device file of one's own. Raises DeviceError FER-DEV-003, naming file and field."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        found = f"{path}: cannot be read ({error.strerror or error})"
        raise DeviceError("FER-DEV-003", f"{found}; allowed: a JSON device file.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise DeviceError("FER-DEV-003", f"{path}: not UTF-8 text; allowed: a JSON device file.") from error
    return parse_profile(text, str(path))


def choose_target(profile: DeviceProfile, target: str | None) -> str:
    """The target to build for a device: `target` where it runs there, the device's default for None.

    Raises DeviceError FER-DEV-002 with the reason and the targets that the device takes.
    """
    if target is None:
        return profile.default_target.text()
    support = profile.targets.get(target)
    if support is None:
        raise _refused(profile, target, "the device's profile does not list it.")
    if not support.runs.flag():
        raise _refused(profile, target, support.runs.reason)
    return target


def check_format(profile: DeviceProfile, target: str, name: str) -> None:
    """Refuse a format (a name from FORMATS) that the target cannot hold on this device or its assumed OS.

    A format that the profile does not list passes: there the converter decides.
    Raises DeviceError FER-DEV-002 with the reason.
    """
    assert name in FORMATS, name
    support = profile.targets[choose_target(profile, target)]
    fmt = support.formats.get(name)
    if fmt is None:
        return
    if not fmt.accepted.flag():
        raise _cannot_hold(profile, target, name, fmt.accepted.reason)
    assumed = profile.facts["os_assumed"].text()
    if fmt.needs_os is not None and _version(assumed) < _version(fmt.needs_os.text()):
        system = profile.facts["os"].text()
        needed = f"it needs {system} {fmt.needs_os.text()}, and the profile assumes {system} {assumed}."
        raise _cannot_hold(profile, target, name, needed)


def _version(text: str) -> tuple[int, ...]:
    """An OS version as numbers that compare: "18.1" -> (18, 1), and 18.0 is 18."""
    parts = [int(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def _unknown(name: str, known: list[str]) -> DeviceError:
    from difflib import get_close_matches

    plain = name.strip().lower().replace(" ", "-").replace("_", "-")
    close = get_close_matches(plain, known, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'?" if close else "`ferrule devices` shows them."
    return DeviceError("FER-DEV-001", f"Unknown device '{name}'; known: {', '.join(known)}.", hint)


def _refused(profile: DeviceProfile, target: str, reason: str) -> DeviceError:
    running = [name for name, support in profile.targets.items() if support.runs.flag()]
    found = f"{profile.title} ('{profile.name}') cannot take target '{target}': {reason}"
    hint = f"Leave the target out for '{profile.default_target.text()}'."
    return DeviceError("FER-DEV-002", f"{found} It takes: {', '.join(running)}.", hint)


def _cannot_hold(profile: DeviceProfile, target: str, name: str, reason: str) -> DeviceError:
    found = f"{profile.title} ('{profile.name}') cannot take format '{name}' with target '{target}': {reason}"
    others = ", ".join(_held(profile, profile.targets[target])) or "none that the profile lists"
    return DeviceError("FER-DEV-002", f"{found} It takes: {others}.", "Choose another recipe or target.")


def _held(profile: DeviceProfile, support: TargetSupport) -> list[str]:
    assumed = _version(profile.facts["os_assumed"].text())
    return [
        name
        for name, fmt in support.formats.items()
        if fmt.accepted.flag() and (fmt.needs_os is None or _version(fmt.needs_os.text()) <= assumed)
    ]
