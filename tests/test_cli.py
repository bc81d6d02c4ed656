"""The command line: help with examples, JSON, exit codes, and one build from a user's file to its measurement."""

from __future__ import annotations

import ast
import json
import logging
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import ferrule
from ferrule.catalog import TECHNIQUES
from ferrule.cli import main
from ferrule.cli.main import COMMANDS
from ferrule.converters import TARGETS
from ferrule.device_profiles import iter_facts, load, names
from ferrule.installed import EXTRAS, TORCH_PIN
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
    [
        ["built"],
        ["build", "x"],
        ["build", "x", "-f", "y"],
        ["build", "-d", "pixel-9"],
        ["-q", "-v", "devices"],
        ["check"],
        ["measure"],
        ["devices", "--jsno"],
        ["completion", "cmd"],
    ],
)
def test_malformed_calls_exit_with_2(arguments: list[str], run: Any) -> None:
    shown = run(*arguments)
    assert shown.code == 2 and "error" in shown.err.lower() and not shown.out


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
    assert rows["w4g32"]["options"].items() >= {"rounding": "mse", "activations": "dynamic", "skip": []}.items()
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


def test_a_wrong_command_is_told_the_closest(run: Any) -> None:
    assert "Did you mean 'devices'?" in run("devcies").err
    assert "There are: bench, build, " in run("xyz").err


def test_one_target_and_one_recipe(run: Any) -> None:
    one = run("targets", "tflite", "--json").json
    assert one["name"] == "litert" and "pixel-9" in one["devices"] and "w8a8" in one["techniques"]
    assert "pixel-9" in run("targets", "litert").out
    assert run("targets", "abacus").code == 2
    one = run("techniques", "w8a8-emb8", "--json").json
    assert [step["name"] for step in one["steps"]] == ["w8a8", "emb8"] and one["recipe"]["name"] == "w8a8-emb8"
    assert "min_rows = 1024" in run("techniques", "emb8").out
    assert run("techniques", "w9").code == 2


def test_doctor(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "9999")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    shown = run("doctor", "--json")
    found = shown.json
    assert shown.code == 0 and found["core"]["problems"] == []
    assert found["ferrule"] == ferrule.__version__ and found["machine"]["cores"] >= 1
    assert set(found["targets"]) == set(TARGETS)
    told = {trouble["what"].partition(" ")[0]: trouble["advice"] for trouble in found["troubles"]}
    assert "OMP_NUM_THREADS=9999" in told and "OMP_WAIT_POLICY=ACTIVE:" in told
    torch = next(package for package in found["packages"] if package["name"] == "torch")
    assert torch["version"].partition("+")[0] == TORCH_PIN and torch["fits"] is True
    onnx = next(extra for extra in found["extras"] if extra["name"] == "onnx")
    assert onnx["install"] == f"pip install 'ferrule[onnx]' torch=={TORCH_PIN}" and onnx["gives"]
    text = run("doctor").out
    assert "core             works" in text and "OMP_NUM_THREADS=9999" in text and "native kernels" in text


def test_doctor_tells_a_missing_extra_and_a_core_that_does_not_work(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr("ferrule.cli.doctor.CORE", ("numpy", "not_there"))
    shown = run("doctor")
    assert shown.code == 1 and "DOES NOT WORK" in shown.out and "package not_there" in shown.out
    assert "pip install 'ferrule[timm]' torch==" in shown.out


def test_doctor_loads_no_toolkit() -> None:
    script = (
        "import sys; sys.argv = ['ferrule', 'doctor', '--json']\n"
        "from ferrule.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'onnx', 'coremltools', 'executorch'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_what_each_extra_gives_is_told_for_every_extra_of_setup() -> None:
    root = Path(__file__).resolve().parents[1]
    tree = ast.parse((root / "setup.py").read_text())
    names = ("TORCH", "TARGETS", "OPTIONAL", "EXTRAS")
    tree.body = [n for n in tree.body if isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") in names]
    found: dict[str, Any] = {}
    exec(compile(tree, "setup.py", "exec"), found)
    assert set(EXTRAS) == set(found["EXTRAS"]) and all(EXTRAS.values())
    assert f"torch=={TORCH_PIN}\n" in (root / "constraints.txt").read_text()


def test_quiet_verbose_and_the_log_file(net: Path, run: Any, tmp_path: Path) -> None:
    log = tmp_path / "all.log"
    arguments = ["build", f"{net}:nan", "--device", "pixel-9:litert", "-o", tmp_path / "out"]
    quiet = run("--quiet", *arguments, "--log", log)
    assert quiet.code == 1 and quiet.err == "" and "FER-MOD-001" in quiet.out
    lines = log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ", line) for line in lines)
    assert any("waiting took" in line for line in lines) and "FER-MOD-001" in lines[-1]
    verbose = run(*arguments, "-v")
    assert "pixel-9:litert fp: waiting" in verbose.err and re.search(r"took \d+\.\d s\)", verbose.err)
    assert "waiting" not in verbose.out and log.read_text().splitlines() == lines
    shown = run("-q", "build", net, "-d", "pixel-9", "-o", tmp_path / "out", "--log", log)
    assert "error FER-SRC-001" in shown.err and "ERROR   FER-SRC-001" in log.read_text()
    assert logging.getLogger("ferrule").level == logging.NOTSET


def test_a_log_file_that_cannot_be_written(run: Any, tmp_path: Path) -> None:
    shown = run("devices", "--log", tmp_path / "none" / "x.log")
    assert shown.code == 1 and "FER-OUT-001" in shown.err and not shown.out


def test_colour_only_where_it_is_wanted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    wrong = ["build", "net", "--device", "pixel-9", "-o", "out"]
    assert "\x1b" not in run("targets").out and "\x1b" not in run(*wrong).err
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[1m" in run("targets").out and "\x1b[1;31merror FER-SRC-001:\x1b[0m" in run(*wrong).err
    assert "\x1b" not in run("targets", "--json").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("targets").out and "\x1b" not in run(*wrong).err
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "0")
    assert "\x1b" not in run("targets").out


def test_init_writes_once(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = run("build")
    assert shown.code == 2 and "FER-PRJ-001" in shown.err and "ferrule init" in shown.err
    assert run("init").code == 0
    before = Path("ferrule.yaml").read_text()
    shown = run("init")
    assert shown.code == 2 and "FER-PRJ-007" in shown.err and Path("ferrule.yaml").read_text() == before
    assert run("init", "-f", "none/x.yaml").code == 1
    Path("ferrule.yaml").write_text(before.replace("pixel-9", "pixle-9"))
    shown = run("build")
    assert shown.code == 2 and "error FER-PRJ-005: ferrule.yaml, line 14, devices[0]" in shown.err
    assert "Did you mean 'pixel-9'?" in shown.err


def test_build_of_a_project(net: Path, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = f"models: {{one: '{net}:nan', two: '{net}:branch'}}\n"
    (tmp_path / "p.yaml").write_text(f"{models}devices: [pixel-9]\nrecipes: [fp]\nout: here\n")
    monkeypatch.chdir(tmp_path.parent)
    shown = run("build", "-f", tmp_path / "p.yaml", "--json")
    assert shown.code == 1 and [(row["model"], row["code"]) for row in shown.json] == [
        ("one", "FER-MOD-001"),
        ("two", "FER-CAP-001"),
    ]
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["one", "two"]
    shown = run("build", "-f", tmp_path / "p.yaml", "-o", tmp_path / "there", "-q")
    assert "one" in shown.out and f"bundles: {tmp_path / 'there'}" in shown.out and shown.err == ""


COMPLETIONS = [
    ("ferrule bui", ["build"]),
    ("ferrule build --device pixel-", ["pixel-8", "pixel-9"]),
    (
        "ferrule build --device pixel-9:",
        ["executorch", "litert", "native", "onnx"],
    ),  # bash replaces what follows the ':'
    ("ferrule build sample:mini", ["minilm"]),
    ("ferrule build x --recipe w8a8-e", ["w8a8-emb8"]),
    ("ferrule build x --recipe mine", ["mine.json"]),
    ("ferrule build net", ["net.py:"]),
    ("ferrule build net.py:", ["branch", "make", "nan"]),
    ("ferrule devices iph", ["iphone-13", "iphone-15-pro", "iphone-16-pro"]),
    ("ferrule targets lit", ["litert"]),
]


@pytest.mark.slow
def test_bash_completes(net: Path, run: Any, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(net.read_text())
    (tmp_path / "mine.json").write_text("{}")
    (tmp_path / "ferrule").write_text(f"#!{sys.executable}\nfrom ferrule.cli import main\nmain()\n")
    (tmp_path / "ferrule").chmod(0o755)
    lines = [run("completion", "bash").out, "compopt() { :; }"]
    for line, _ in COMPLETIONS:
        lines += [f"COMP_LINE='{line}' COMP_POINT={len(line)}", "_ferrule_completion ./ferrule", "echo ${COMPREPLY[*]}"]
    done = subprocess.run(["bash"], input="\n".join(lines), cwd=tmp_path, capture_output=True, text=True, check=True)
    offered = [sorted(line.split()) for line in done.stdout.splitlines()]
    for (line, wanted), found in zip(COMPLETIONS, offered, strict=True):
        assert found == wanted, line


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
