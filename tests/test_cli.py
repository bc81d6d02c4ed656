"""The command line: help with examples, JSON, exit codes, and one build from a user's file to its measurement."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ferrule
from ferrule.catalog import TECHNIQUES
from ferrule.cli import main
from ferrule.cli.main import COMMANDS
from ferrule.converters import TARGETS
from ferrule.device_profiles import iter_facts, load, names
from ferrule.recipe import preset_names

NET = """
import torch
from torch import nn
import ferrule

def make():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    return module, (torch.randn(4, 64),), {"input": {0: ferrule.Dim("rows", 1, 64)}}

def nan():
    module, inputs, _ = make()
    module[2].bias.data[3] = float("nan")
    return module, inputs

def branch():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.max() > 0 else -x
    return Branch(), (torch.ones(2),)
"""


class Run:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the console script's function in this process."""

    def call(*arguments: object) -> Run:
        monkeypatch.setattr(sys, "argv", ["ferrule", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return Run(int(caught.value.code or 0), out, err)

    return call


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "net.py"
    path.write_text(NET)
    return path


def test_the_commands_are_listed_with_what_they_do(run: Any) -> None:
    for arguments in (["--help"], ["-h"]):
        shown = run(*arguments)
        assert shown.code == 0 and all(name in shown.out for name in COMMANDS)
    bare = run()
    assert bare.code == 2 and "build" in bare.out + bare.err
    assert run("--version").out.strip() == f"ferrule, version {ferrule.__version__}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_has_an_example_of_every_command(command: str, run: Any) -> None:
    shown = run(command, "--help")
    assert shown.code == 0 and "Usage: ferrule" in shown.out
    examples = [line for line in shown.out.splitlines()[1:] if f"ferrule {command}" in line]
    assert examples


@pytest.mark.parametrize(
    "arguments",
    [["built"], ["build"], ["build", "x"], ["check"], ["measure"], ["devices", "--jsno"], ["completion", "cmd"]],
)
def test_malformed_calls_exit_with_2(arguments: list[str], run: Any) -> None:
    shown = run(*arguments)
    assert shown.code == 2 and "Error" in shown.err and not shown.out


def test_devices_as_json(run: Any) -> None:
    shown = run("devices", "--json")
    assert shown.code == 0 and [row["name"] for row in shown.json] == names()
    for row in shown.json:
        assert set(row) == {"name", "title", "soc", "ram_gb", "default_target", "targets"}
        assert row["targets"][0] == row["default_target"] and set(row["targets"]) <= set(TARGETS)
    one = run("devices", "pixel-9", "--json").json
    assert one["name"] == "pixel-9" and {"value", "unit", "source", "confidence", "date"} <= set(one["facts"]["soc"])


def test_devices_as_tables(run: Any) -> None:
    shown = run("devices")
    assert shown.code == 0 and all(name in shown.out for name in names())
    shown = run("devices", "iphone-13")
    assert "iPhone 13" in shown.out and len(shown.out.splitlines()) > len(dict(iter_facts(load("iphone-13"))))


def test_targets_as_json(run: Any) -> None:
    rows = {row["name"]: row for row in run("targets", "--json").json}
    assert list(rows) == list(TARGETS) and rows["litert"]["aliases"] == ["tflite"]
    for name, row in rows.items():
        assert set(row) == {"name", "file", "summary", "aliases", "installed", "install"}
        assert isinstance(row["installed"], bool) and row["file"] == TARGETS[name].file
    assert all(name in run("targets").out for name in TARGETS)


def test_techniques_as_json(run: Any) -> None:
    rows = {row["name"]: row for row in run("techniques", "--json").json}
    assert list(rows) == list(TECHNIQUES)
    assert rows["w4g32"]["options"] == {"rounding": "mse", "activations": "dynamic", "skip": []}
    for row in rows.values():
        assert {"name", "kind", "summary", "options", "targets", "paper", "needs_data"} == set(row)
    assert all(name in run("techniques").out for name in TECHNIQUES)


@pytest.mark.parametrize(("shell", "mark"), [("bash", "complete "), ("zsh", "compdef"), ("fish", "complete ")])
def test_completion_scripts(shell: str, mark: str, run: Any) -> None:
    shown = run("completion", shell)
    assert shown.code == 0 and "_FERRULE_COMPLETE" in shown.out and mark in shown.out


UNKNOWN = [
    ("device", ["pixel9"], "w8", "net.py:make", "FER-DEV-001", names()),
    ("target", ["pixel-9:abacus"], "w8", "net.py:make", "FER-TGT-001", list(TARGETS)),
    ("recipe", ["pixel-9"], "w9", "net.py:make", "FER-REC-001", preset_names()),
    ("spec", ["pixel-9"], "w8", "net", "FER-SRC-001", ["sample:NAME", "hf:DIRECTORY", "FILE.py:FUNCTION", "FILE.pt2"]),
]


@pytest.mark.parametrize(
    ("devices", "recipe", "spec", "code", "known"), [u[1:] for u in UNKNOWN], ids=[u[0] for u in UNKNOWN]
)
def test_unknown_names_exit_with_2_and_list_the_known_ones(
    devices: list[str], recipe: str, spec: str, code: str, known: list[str], run: Any, tmp_path: Path
) -> None:
    arguments = ["build", spec, "--recipe", recipe, "-o", tmp_path / "out"]
    for device in devices:
        arguments += ["--device", device]
    shown = run(*arguments)
    assert shown.code == 2 and not shown.out
    assert shown.err.startswith(f"error {code}: ") and all(name in shown.err for name in known)
    assert not (tmp_path / "out").exists()
    shown = run(*arguments, "--json")
    (row,) = shown.json
    assert shown.code == 2 and (row["status"], row["code"]) == ("failed", code) and row["reason"]


def test_an_unknown_name_is_told_before_the_model_is_loaded(run: Any, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("raise RuntimeError('loaded')")
    shown = run("build", f"{tmp_path}/net.py:make", "--device", "pixel9", "-o", tmp_path / "out")
    assert shown.code == 2 and "loaded" not in shown.err
    assert "loaded" in run("build", f"{tmp_path}/net.py:make", "--device", "pixel-9", "-o", tmp_path / "out").out


@pytest.mark.parametrize("command", ["devices"])
def test_other_commands_exit_with_2_for_unknown_names(command: str, run: Any) -> None:
    shown = run(command, "nokia-3310")
    assert shown.code == 2 and "FER-DEV-001" in shown.err and "pixel-9" in shown.err


@pytest.mark.parametrize(
    ("function", "device", "recipe", "status", "code", "told"),
    [
        ("nan", "pixel-9:litert", "w8", "failed", "FER-MOD-001", "'2.bias' holds 1 NaN"),
        ("branch", "pixel-9:litert", "fp", "failed", "FER-CAP-001", "return x if x.max() > 0 else -x"),
        ("make", "pixel-9:coreml", "w8", "refused", "FER-DEV-002", "cannot take target 'coreml'"),
        ("make", "iphone-13", "emb8", "failed", "FER-REC-002", "'emb8' found no layer"),
    ],
)
def test_a_build_of_nothing_exits_with_1_and_says_why(
    function: str, device: str, recipe: str, status: str, code: str, told: str, net: Path, run: Any, tmp_path: Path
) -> None:
    arguments = ["build", f"{net}:{function}", "--device", device, "--recipe", recipe, "-o", tmp_path / "out"]
    shown = run(*arguments, "--json")
    (row,) = shown.json
    assert shown.code == 1 and (row["status"], row["code"]) == (status, code) and told in row["reason"]
    assert (row["bundle"], row["size_bytes"], row["parity"]) == (None, None, None)
    shown = run(*arguments, "--quiet")
    assert shown.code == 1 and code in shown.out and status in shown.out


def test_an_output_folder_that_cannot_be_written(net: Path, run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file" / "out", "/proc/ferrule"):
        shown = run("build", f"{net}:make", "--device", "pixel-9", "-o", out)
        assert shown.code == 1 and "FER-OUT-001" in shown.err and str(out) in shown.err and "-o" in shown.err


def test_check_and_measure_of_no_bundle(run: Any, tmp_path: Path) -> None:
    shown = run("check", tmp_path / "none", "--json")
    assert shown.code == 1 and shown.json["ok"] is False and shown.json["parity"] is None
    assert "FER-BUN-001" in shown.json["problems"][0]
    assert "not ok" in run("check", tmp_path).out
    shown = run("measure", tmp_path / "none")
    assert shown.code == 1 and "error FER-BUN-001" in shown.err


@pytest.mark.slow
def test_from_a_file_to_a_measured_bundle(net: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def ferrule_json(*arguments: object, code: int = 0) -> Any:
        command = [sys.executable, "-c", "from ferrule.cli import main; main()", *map(str, arguments), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout)

    # One device takes the target, the other cannot: some were built.
    rows = ferrule_json(
        *("build", f"{net}:make", "--device", "raspberry-pi-5:onnx", "--device", "pixel-9:coreml"),
        *("--recipe", "w8a8", "--zip", "-o", out),
        code=3,
    )
    built, refused = rows
    assert {"device", "target", "recipe", "status", "bundle", "size_bytes", "parity", "code", "reason"} <= set(built)
    assert (built["device"], built["target"], built["recipe"]) == ("raspberry-pi-5", "onnx", "w8a8")
    assert built["status"] == "ok" and built["code"] is None and built["reason"] is None
    assert built["parity"]["cosine"] >= 0.99 and 0 < built["parity"]["max_abs"] < 0.1
    # int8: far below the 4 * (64 * 96 + 96 * 10) bytes of float32 weights.
    assert 0 < built["size_bytes"] < 0.6 * 4 * (64 * 96 + 96 * 10)
    assert (refused["status"], refused["code"], refused["bundle"]) == ("refused", "FER-DEV-002", None)

    bundle = Path(built["bundle"])
    assert {p.name for p in out.iterdir()} == {bundle.name, bundle.name + ".zip", "build.json"}
    for path in (bundle, out / (bundle.name + ".zip")):
        checked = ferrule_json("check", path)
        assert (checked["ok"], checked["problems"]) == (True, []) and checked["parity"] == built["parity"]

    measured = ferrule_json("measure", bundle, "--runs", 20, "--length", 16)
    assert {"engine", "threads", "latency_ms", "load_ms", "peak_rss_mb"} <= set(measured)
    assert (measured["engine"], measured["threads"], measured["length"]) == ("onnxruntime", 1, 16)
    latency = measured["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    assert measured["load_ms"] > 0 and measured["peak_rss_mb"] > 10

    (bundle / "program" / "forward.onnx").write_bytes(b"x")
    damaged = ferrule_json("check", bundle, code=1)
    assert damaged["ok"] is False and "program/forward.onnx was changed" in damaged["problems"][0]
