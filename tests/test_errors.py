"""Codes: each one that is raised is documented, each one documented is raised, and the tree holds their families."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path

import pytest

from ferrule import errors
from ferrule.cli.main import USAGE_FAMILIES
from ferrule.errors import FerruleError, by_code

ROOT = Path(__file__).resolve().parents[1]
CODE = re.compile(r"FER-[A-Z]{3}-\d{3}")
SOURCES = sorted(
    path
    for folder in ("sdk", "converters", "runtime", "device_profiles", "csrc/bindings", "csrc/executor", "csrc/ops")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".cpp", ".h"}
)
NATIVE = {"FER-KER"}
"""Raised by the extension alone, as TypeError and ValueError."""
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, FerruleError) and kind is not FerruleError
}


def raised() -> dict[str, set[str]]:
    """Codes that stand as string literals of their own or at the head of one, with the files that hold them."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        for code in re.findall(r'"(FER-[A-Z]{3}-\d{3})[" ]', path.read_text(encoding="utf-8")):
            found.setdefault(code, set()).add(path.relative_to(ROOT).as_posix())
    return found


def test_every_code_that_is_raised_has_an_entry_and_no_other_has() -> None:
    entries = re.findall(r"^\*\*(FER-[A-Z]{3}-\d{3})\*\* ", PAGE, re.MULTILINE)
    assert len(entries) == len(set(entries))
    assert {code: files for code, files in raised().items() if code not in entries} == {}
    assert set(entries) - set(raised()) == set()


def test_every_code_that_is_mentioned_exists() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert set(CODE.findall(text)) <= set(raised()), path


def test_entries_stand_in_order_under_their_family() -> None:
    family = ""
    last = ""
    for line in PAGE.splitlines():
        if heading := re.match(r"## (FER-[A-Z]{3}): .+ \((\w+)(, \w+)?\)$", line):
            family, last = heading[1], ""
            if family not in NATIVE:
                assert type(by_code(f"{family}-001", "")) is CLASSES[heading[2]]
        elif entry := re.match(r"\*\*(FER-[A-Z]{3}-\d{3})\*\* (.*)", line):
            assert entry[1].startswith(family) and entry[1] > last and entry[2]
            last = entry[1]
    assert last


def test_an_entry_is_two_to_four_lines() -> None:
    entries = re.split(r"\n\n", PAGE)
    lengths = {e[2:13]: len(e.strip().splitlines()) for e in entries if e.startswith("**FER-")}
    assert lengths and all(1 <= n <= 4 for n in lengths.values()), lengths


def test_the_tree_in_the_docstring_is_the_classes() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+)\s+(FER-[A-Z]{3}(?:, FER-[A-Z]{3})*) ", str(errors.__doc__)))
    assert set(drawn) == set(CLASSES)
    families = {family: name for name, text in drawn.items() for family in text.split(", ")}
    for family, name in families.items():
        assert type(by_code(f"{family}-999", "m")) is CLASSES[name]
        assert family in str(CLASSES[name].__doc__)
    assert {code[:7] for code in raised()} - NATIVE == set(families)
    assert set(errors.__all__) == {*CLASSES, "FerruleError", "by_code"}


def test_the_class_that_raises_a_code_is_its_familys() -> None:
    call = re.compile(r'(\w+Error)\(\s*"(FER-[A-Z]{3})-\d{3}"')
    calls = [pair for path in SOURCES if path.suffix == ".py" for pair in call.findall(path.read_text("utf-8"))]
    assert len(calls) > 60
    for name, family in calls:
        assert type(by_code(f"{family}-001", "")).__name__ == name


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_errors_carry_code_message_and_hint(name: str) -> None:
    error = CLASSES[name]("FER-XXX-001", "Found this.", "Do that.")
    assert (error.code, error.message, error.hint) == ("FER-XXX-001", "Found this.", "Do that.")
    assert str(error) == "FER-XXX-001: Found this. Do that."
    assert str(CLASSES[name]("FER-XXX-001", "Found this.")) == "FER-XXX-001: Found this."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)


def test_an_error_that_crossed_a_process_keeps_its_class() -> None:
    for code in raised():
        error = by_code(code, "m", "h")
        assert isinstance(error, FerruleError) and (error.code, error.message, error.hint) == (code, "m", "h")
        assert (type(error) is FerruleError) == (code[:7] in NATIVE)
    assert type(by_code("FER-NEW-001", "m")) is FerruleError


def test_usage_codes_exist() -> None:
    for prefix in USAGE_FAMILIES:
        assert any(code.startswith(prefix) for code in raised())


def test_native_errors_are_pythons_own_kinds() -> None:
    native = pytest.importorskip("ferrule.runtime._C")
    assert issubclass(native.KernelTypeError, TypeError) and issubclass(native.KernelValueError, ValueError)
    with pytest.raises(native.KernelTypeError, match="^FER-KER-001"):
        native.layer_norm("rows")
