"""The single fields of a device file: what is allowed in each, and the refusal when it is something else."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from ferrule.device_profiles.profile import CONFIDENCES, Fact, FactSpec, Value
from ferrule.errors import DeviceError

__all__ = ["FACT_KEYS", "Fields", "shown"]

FACT_KEYS = ("value", "unit", "source", "confidence", "date")

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_KINDS = {
    "text": "a text that is not empty",
    "texts": "a list of texts, not empty",
    "number": "a number above 0, at most 1e9",
    "numbers": "a list of numbers above 0, at most 1e9, not empty",
    "flag": "true or false",
}


@dataclass(frozen=True)
class Fields:
    """Checks of fields; `origin` names the file in each refusal (DeviceError FER-DEV-003)."""

    origin: str

    def refuse(self, path: str, found: str, allowed: str) -> NoReturn:
        where = f"{self.origin}: field '{path}'" if path else self.origin
        raise DeviceError("FER-DEV-003", f"{where}: {found}; allowed: {allowed}.", "Correct the device file.")

    def unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            self.refuse(twice, "the key stands twice in one object", "each key once")
        return data

    def no_constant(self, name: str) -> NoReturn:
        self.refuse("", f"the number {name}", "finite numbers")

    def keys(self, data: Any, path: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        """Refuse anything but an object with all `required` keys and no key beyond those and `optional`."""
        if not isinstance(data, dict):
            self.refuse(path, f"found {shown(data)}", "an object")
        inside = f"{path}." if path else ""
        for name in data:
            if name not in required + optional:
                self.refuse(inside + name, "unknown field", ", ".join(required + optional))
        for name in required:
            if name not in data:
                self.refuse(inside + name, "the field is missing", ", ".join(required + optional))

    def slug(self, value: Any, path: str) -> str:
        if not isinstance(value, str) or not _SLUG.fullmatch(value):
            self.refuse(path, f"found {shown(value)}", "lower-case words and digits joined by '-'")
        return value

    def line(self, value: Any, path: str) -> str:
        if not isinstance(value, str) or not value.strip():
            self.refuse(path, f"found {shown(value)}", _KINDS["text"])
        return value

    def choice(self, value: Any, path: str, allowed: tuple[str, ...]) -> str:
        if not isinstance(value, str) or value not in allowed:
            self.refuse(path, f"found {shown(value)}", ", ".join(allowed))
        return value

    def fact(self, data: Any, path: str, spec: FactSpec) -> Fact:
        self.keys(data, path, FACT_KEYS, ("reason",))
        if not _fits(data["value"], spec.kind):
            self.refuse(f"{path}.value", f"found {shown(data['value'])}", _KINDS[spec.kind])
        if data["unit"] != spec.unit:
            self.refuse(f"{path}.unit", f"found {shown(data['unit'])}", f"'{spec.unit}'")
        if not _is_day(data["date"]):
            self.refuse(f"{path}.date", f"found {shown(data['date'])}", "a day as YYYY-MM-DD")
        value: Value = tuple(data["value"]) if isinstance(data["value"], list) else data["value"]
        return Fact(
            value,
            spec.unit,
            self.line(data["source"], f"{path}.source"),
            self.choice(data["confidence"], f"{path}.confidence", CONFIDENCES),
            data["date"],
            self.line(data["reason"], f"{path}.reason") if "reason" in data else "",
        )

    def version(self, data: Any, path: str) -> Fact:
        fact = self.fact(data, path, FactSpec("text"))
        if not _VERSION.fullmatch(fact.text()):
            self.refuse(f"{path}.value", f"found {shown(fact.value)}", "a version such as '18' or '18.1'")
        return fact


def _fits(value: Any, kind: str) -> bool:
    if kind in ("texts", "numbers"):
        return isinstance(value, list) and bool(value) and all(_fits(item, kind[:-1]) for item in value)
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "text":
        return isinstance(value, str) and bool(value.strip())
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e9


def _is_day(value: Any) -> bool:
    if not isinstance(value, str) or not _DAY.fullmatch(value):
        return False
    try:
        datetime.date.fromisoformat(value)
    except ValueError:
        return False
    return True


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
