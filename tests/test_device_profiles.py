"""The shipped device files are complete and agree; refusals say why; a malformed file names its field."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ferrule.device_profiles import (
    check_format,
    choose_target,
    iter_facts,
    load,
    load_file,
    names,
    to_data,
    to_json,
)
from ferrule.device_profiles.profile import CONFIDENCES, FORMATS
from ferrule.errors import DeviceError

DEVICES = [
    "galaxy-s23",
    "galaxy-s24",
    "galaxy-s25",
    "iphone-13",
    "iphone-15-pro",
    "iphone-16-pro",
    "macbook-air-m1",
    "macbook-air-m2",
    "macbook-pro-m4",
    "pixel-8",
    "pixel-9",
    "raspberry-pi-5",
]
APPLE = [name for name in DEVICES if name.startswith(("iphone", "macbook"))]
OTHERS = [name for name in DEVICES if name not in APPLE]
TARGETS = ["executorch", "executorch-coreml", "coreml", "litert", "native", "onnx"]


def test_the_shipped_devices_are_exactly_these() -> None:
    assert names() == DEVICES


@pytest.mark.parametrize("name", DEVICES)
def test_every_fact_is_complete(name: str) -> None:
    profile = load(name)
    assert profile.name == name
    facts = dict(iter_facts(profile))
    assert len(facts) > 40
    for path, fact in facts.items():
        values = fact.value if isinstance(fact.value, tuple) else (fact.value,)
        assert values, path
        numeric = any(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        assert bool(fact.unit) == numeric, path
        assert fact.source.strip(), path
        assert fact.confidence in CONFIDENCES, path
        assert datetime.date.fromisoformat(fact.date).isoformat() == fact.date, path
        if fact.source.startswith("from memory"):
            assert fact.confidence == "estimated", path


@pytest.mark.parametrize("name", DEVICES)
def test_every_profile_speaks_of_every_target(name: str) -> None:
    profile = load(name)
    assert list(profile.targets) == TARGETS
    for target, support in profile.targets.items():
        if support.runs.flag():
            assert choose_target(profile, target) == target
            assert "cpu" in support.units and support.formats
        else:
            assert support.runs.reason and not support.units and not support.formats


@pytest.mark.parametrize("name", DEVICES)
def test_a_file_is_the_profile_written_out(name: str, tmp_path: Path) -> None:
    profile = load(name)
    own = tmp_path / "own.json"
    own.write_text(to_json(profile), encoding="utf-8")
    assert load_file(own) == profile
    assert json.loads(to_json(profile)) == json.loads(json.dumps(to_data(profile)))
    assert pickle.loads(pickle.dumps(profile)) == profile
    shipped = Path(sys.modules["ferrule.device_profiles"].__path__[0]) / "data" / f"{name}.json"
    assert shipped.read_text(encoding="utf-8") == to_json(profile)


def test_default_targets() -> None:
    default = {name: choose_target(load(name), None) for name in DEVICES}
    assert {default[name] for name in APPLE} == {"coreml"}
    assert {default[name] for name in OTHERS if name != "raspberry-pi-5"} == {"litert"}
    assert default["raspberry-pi-5"] == "onnx"


@pytest.mark.parametrize("target", ["coreml", "executorch-coreml"])
@pytest.mark.parametrize("name", OTHERS)
def test_core_ml_is_refused_outside_apple(name: str, target: str) -> None:
    profile = load(name)
    with pytest.raises(DeviceError) as caught:
        choose_target(profile, target)
    error = caught.value
    assert error.code == "FER-DEV-002"
    assert profile.title in error.message and name in error.message and f"'{target}'" in error.message
    assert profile.targets[target].runs.reason in error.message
    assert "executorch, litert, native, onnx" in error.message


@pytest.mark.parametrize("target", ["mps", "unknown", ""])
def test_a_target_that_is_not_listed_is_refused_with_what_the_device_takes(target: str) -> None:
    with pytest.raises(DeviceError, match="executorch, executorch-coreml, coreml, litert, native, onnx") as caught:
        choose_target(load("iphone-13"), target)
    assert caught.value.code == "FER-DEV-002" and f"'{target}'" in caught.value.message


@pytest.mark.parametrize(
    ("given", "close"),
    [("pixel9", "pixel-9"), ("iPhone 15 Pro", "iphone-15-pro"), ("galaxy_s25", "galaxy-s25")],
)
def test_an_unknown_device_gets_the_closest_name(given: str, close: str) -> None:
    with pytest.raises(DeviceError) as caught:
        load(given)
    assert caught.value.code == "FER-DEV-001"
    assert f"'{given}'" in caught.value.message and close in caught.value.hint
    assert all(name in caught.value.message for name in DEVICES)


def test_a_name_is_never_a_path() -> None:
    for given in ("../data/pixel-9", "pixel-9.json", "zzzz", ""):
        with pytest.raises(DeviceError) as caught:
            load(given)
        assert caught.value.code == "FER-DEV-001" and f"'{given}'" in caught.value.message


def test_formats_of_the_shipped_devices() -> None:
    """Weights of the first recipes are taken wherever a target runs, but halves by native; Core ML has fixed ranges."""
    for name in DEVICES:
        profile = load(name)
        for target, support in profile.targets.items():
            if not support.runs.flag():
                continue
            for fmt in ("float32", "int8-channel", "int4-block"):
                check_format(profile, target, fmt)
            if target == "native":
                with pytest.raises(DeviceError, match="compute in float32 and int8"):
                    check_format(profile, target, "float16")
            else:
                check_format(profile, target, "float16")
            if target.endswith("coreml"):
                with pytest.raises(DeviceError, match="fixed ranges") as caught:
                    check_format(profile, target, "activations-int8-dynamic")
                assert caught.value.code == "FER-DEV-002" and profile.title in caught.value.message
            else:
                check_format(profile, target, "activations-int8-dynamic")


def test_a_format_that_is_not_listed_is_left_to_the_converter() -> None:
    profile = load("pixel-9")
    assert "sparse" in FORMATS and "sparse" not in profile.targets["litert"].formats
    check_format(profile, "litert", "sparse")


@pytest.mark.parametrize(("assumed", "taken"), [("17", False), ("17.9", False), ("18", True), ("18.0", True)])
def test_an_older_system_refuses_what_came_later(assumed: str, taken: bool, tmp_path: Path) -> None:
    data = to_data(load("iphone-15-pro"))
    data["facts"]["os_assumed"]["value"] = assumed
    own = tmp_path / "own.json"
    own.write_text(json.dumps(data), encoding="utf-8")
    profile = load_file(own)
    check_format(profile, "coreml", "int8-channel")
    if taken:
        check_format(profile, "coreml", "int4-block")
        return
    with pytest.raises(DeviceError, match=f"needs iOS 18, and the profile assumes iOS {assumed}") as caught:
        check_format(profile, "coreml", "int4-block")
    takes = caught.value.message.split("It takes:")[1]
    assert "int8-channel" in takes and "int4" not in takes


def _edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(data: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        node: Any = data
        for step in parents:
            node = node[int(step)] if isinstance(node, list) else node[step]
        if value is ...:
            del node[last]
        else:
            node[last] = value

    return apply


FACT = {"value": "x", "unit": "", "source": "s", "confidence": "vendor", "date": "2026-01-01"}
MALFORMED = [
    ("schema", 2, "'schema'"),
    ("schema", True, "'schema'"),
    ("colour", "red", "'colour': unknown field"),
    ("title", ..., "'title': the field is missing"),
    ("title", " ", "'title'"),
    ("name", "Pixel 9", "'name'"),
    ("facts", [], "'facts'"),
    ("facts/soc", ..., "'facts.soc': the field is missing"),
    ("facts/weight_g", FACT, "'facts.weight_g': unknown field"),
    ("facts/soc/source", "", "'facts.soc.source'"),
    ("facts/soc/source", ..., "'facts.soc.source': the field is missing"),
    ("facts/soc/note", "x", "'facts.soc.note': unknown field"),
    ("facts/soc/value", 7, "'facts.soc.value': found 7; allowed: a text"),
    ("facts/soc/confidence", "sure", "allowed: measured, vendor, estimated"),
    ("facts/soc/date", "20261124", "YYYY-MM-DD"),
    ("facts/soc/date", "2026-02-30", "YYYY-MM-DD"),
    ("facts/ram_gb/value", "8", "'facts.ram_gb.value'"),
    ("facts/ram_gb/value", True, "'facts.ram_gb.value'"),
    ("facts/ram_gb/value", -8, "a number above 0"),
    ("facts/ram_gb/value", float("nan"), "the number NaN"),
    ("facts/ram_gb/value", 10**400, "at most 1e9"),
    ("facts/ram_gb/value", 16, "the smallest of ram_variants_gb"),
    ("facts/ram_gb/unit", "MB", "'facts.ram_gb.unit': found \"MB\"; allowed: 'GB'"),
    ("facts/ram_variants_gb/value", [], "'facts.ram_variants_gb.value'"),
    ("facts/app_memory_mb/value", 99999, "at most the memory of the device"),
    ("facts/os_assumed/value", "fourteen", "'facts.os_assumed.value'"),
    ("cpu", [], "a list, not empty"),
    ("cpu/0/count/value", 1.5, "a whole number"),
    ("cpu/0/isa/value", ["neno"], "'cpu[0].isa.value'"),
    ("accelerators/0/kind", "tpu", "allowed: gpu, ane, npu"),
    ("default_target/value", "coreml", "a target that runs here"),
    ("default_target/reason", ..., "'default_target.reason'"),
    ("targets", {}, "at least one target"),
    ("targets/coreml/runs/reason", ..., "'targets.coreml.runs.reason'"),
    ("targets/coreml/units", {"cpu": FACT}, "no unit"),
    ("targets/coreml/formats", {"float32": {}}, "none, because the target does not run"),
    ("targets/litert/units", {}, "at least one unit"),
    ("targets/litert/units/ane", FACT, "'targets.litert.units.ane': unknown field"),
    ("targets/litert/formats/int5", {"accepted": FACT}, "'targets.litert.formats.int5': unknown field"),
    ("targets/litert/formats/float32/accepted/value", 1, "true or false"),
    ("targets/litert/formats/float32/needs_os", FACT, "a version such as"),
]


@pytest.mark.parametrize(("path", "value", "said"), MALFORMED)
def test_a_malformed_file_names_the_file_the_field_and_what_is_allowed(
    path: str, value: Any, said: str, tmp_path: Path
) -> None:
    data = copy.deepcopy(to_data(load("pixel-9")))
    _edit(path, value)(data)
    own = tmp_path / "own.json"
    own.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(DeviceError) as caught:
        load_file(own)
    assert caught.value.code == "FER-DEV-003"
    assert str(own) in caught.value.message and "allowed: " in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"schema": 1, "schema": 1}', b"[" * 200_000, b"1" * 9_000],
)
def test_what_is_no_device_file_at_all(content: bytes, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_bytes(content)
    with pytest.raises(DeviceError) as caught:
        load_file(own)
    assert caught.value.code == "FER-DEV-003" and str(own) in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(DeviceError) as caught:
            load_file(path)
        assert caught.value.code == "FER-DEV-003" and str(path) in caught.value.message


def test_the_import_loads_no_toolkit() -> None:
    code = (
        "import sys, ferrule.device_profiles as d; d.load('pixel-9');"
        "print([m for m in ('torch', 'numpy', 'onnx', 'coremltools', 'executorch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
