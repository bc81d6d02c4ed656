"""Worker processes: whatever becomes of one is an outcome; and a build tells each failure by code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ferrule
from ferrule.errors import DeviceError, FerruleError, LoweringError, OutputError, RecipeError, TargetError, UsageError
from ferrule.flow import compress, deploy, lower, parse_destination
from ferrule.jobs import Event, Job, run_jobs
from ferrule.model import as_model, capture
from ferrule.proof import make_proof, save_proof
from ferrule.result import Result, write_results
from ferrule.worker import read_graphs, write_graphs

X = (torch.ones(1, 64),)


def find_processes(text: str) -> list[int]:
    """Processes, other than this one, whose command line holds `text`; those that only wait to be reaped left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if text in command and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def is_gone(text: str, seconds: float = 10) -> bool:
    """Whether such processes end within a while: a killed one needs a moment."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not find_processes(text):
            return True
        time.sleep(0.05)
    return False


def kill_worker(event: Event, folder: Path) -> None:
    (pid,) = find_processes(str(folder))
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    torch.manual_seed(0)
    model = compress(as_model(nn.Sequential(nn.Linear(64, 64)), X), "w8")
    write_graphs(capture(model), folder / "graphs")
    save_proof(make_proof(model, ["output"]), folder / "proof.safetensors")
    return folder


def make_job(prepared: Path, folder: Path, **fields: Any) -> Job:
    known = {"device": "raspberry-pi-5", "target": "onnx", "recipe": "w8", "min_cosine": 0.9}
    return Job(folder=folder, graphs=prepared / "graphs", proof=prepared / "proof.safetensors", **{**known, **fields})


def test_graphs_survive_the_way_to_the_worker(prepared: Path) -> None:
    graph = read_graphs(prepared / "graphs")["forward"]
    assert [s.name for s in graph.signature.inputs] == ["input"]
    assert any("ferrule.coded_linear" in str(n.target) for n in graph.program.graph.nodes)
    assert graph.program.module()(*X).shape == (1, 64)


@pytest.mark.slow
def test_a_worker_lowers_and_proves_and_tells_its_steps(prepared: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    (outcome,) = run_jobs([make_job(prepared, tmp_path / "job")], events.append)
    assert outcome.error is None and outcome.program is not None and outcome.seconds > 0
    assert outcome.program.parity is not None and outcome.program.parity.cosine > 0.999
    assert outcome.program.root is not None and (outcome.program.root / outcome.program.main).is_file()
    phases = list(dict.fromkeys(e.phase for e in events))
    assert phases == ["loading", "lowering", "proving"]
    assert (events[-1].done, events[-1].total) == (1, 1) and events[-1].device == "raspberry-pi-5"


@pytest.mark.slow
def test_parity_under_the_bound_and_unexpected_errors_are_outcomes(prepared: Path, tmp_path: Path) -> None:
    strict = make_job(prepared, tmp_path / "strict", min_cosine=1.1)
    absent = make_job(tmp_path, tmp_path / "absent")
    outcomes = {o.job.folder.name: o for o in run_jobs([strict, absent])}
    parity, missing = outcomes["strict"].error, outcomes["absent"].error
    assert parity is not None and parity.code == "FER-PAR-001" and "asks for 1.1000" in parity.message
    assert missing is not None and missing.code == "FER-LOW-009" and "FileNotFoundError" in missing.message
    assert "Traceback" in (tmp_path / "absent" / "log.txt").read_text()


def test_a_worker_that_is_killed_is_an_outcome(prepared: Path, tmp_path: Path) -> None:
    job = make_job(prepared, tmp_path / "job")
    (outcome,) = run_jobs([job], lambda event: kill_worker(event, job.folder))
    assert outcome.program is None and isinstance(outcome.error, LoweringError)
    assert outcome.error.code == "FER-LOW-010" and "SIGKILL" in outcome.error.message
    assert "memory" in outcome.error.hint


def test_closing_the_outcomes_kills_those_that_run_and_starts_no_more(prepared: Path, tmp_path: Path) -> None:
    jobs = [make_job(prepared, tmp_path / name) for name in ("first", "second", "third", "fourth")]
    both = threading.Barrier(2, timeout=60)

    def progress(event: Event) -> None:
        name = threading.current_thread().name
        if event.phase == "loading" and name not in seen:
            seen.add(name)
            both.wait()  # two are running now
            if seen_first.acquire(blocking=False):
                (pid, *_) = find_processes(str(tmp_path / "first"))
                os.kill(pid, signal.SIGKILL)

    seen: set[str] = set()
    seen_first = threading.Lock()
    outcomes = run_jobs(jobs, progress)
    first = next(outcomes)
    assert first.job.folder.name == "first" and first.error is not None
    start = time.monotonic()
    outcomes.close()
    assert time.monotonic() - start < 5
    assert is_gone(str(tmp_path))
    assert not list(tmp_path.glob("*/result.json")) and not (tmp_path / "fourth" / "log.txt").exists()


def test_a_progress_function_that_raises_leaves_no_worker(prepared: Path, tmp_path: Path) -> None:
    def progress(event: Event) -> None:
        raise ZeroDivisionError(event.phase)

    with pytest.raises(ZeroDivisionError, match="loading"):
        list(run_jobs([make_job(prepared, tmp_path / "job")], progress))
    assert is_gone(str(tmp_path))


SLOW_MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(24)]), (torch.ones(1, 64),)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "moment"),
    # The folder `program` is made when a worker begins to lower; `log.txt` when the model begins to load.
    [(signal.SIGINT, "job-*/program"), (signal.SIGTERM, "prepared/log.txt")],
    ids=["ctrl-c while lowering", "terminated while loading"],
)
def test_an_interrupted_build_leaves_nothing_behind(sent: signal.Signals, moment: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SLOW_MODEL)
    out = tmp_path / "out"
    # A shell starts background jobs with Ctrl-C ignored, and a build that inherits this heeds it.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = f"{heed}; from ferrule.cli import main; main()"
    command = [sys.executable, "-c", run, "build", f"{tmp_path}/net.py:make"]
    devices = ["--device", "raspberry-pi-5:onnx", "--device", "pixel-9:onnx"]
    build = subprocess.Popen(
        [*command, *devices, "--recipe", "w8", "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 120
        while build.poll() is None and time.monotonic() < end:
            if list(out.glob(f".ferrule-*/{moment}")) and find_processes(f"{out}/.ferrule-"):
                break
            time.sleep(0.02)
        assert build.poll() is None, build.communicate()
        assert find_processes(f"{out}/.ferrule-")
        build.send_signal(sent)
        _, errors = build.communicate(timeout=60)
    finally:
        build.kill()
    assert build.returncode == 130, errors
    assert "interrupted" in errors and "Traceback" not in errors
    assert is_gone(f"{out}/.ferrule-")
    assert list(out.iterdir()) == []


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


LINEAR = nn.Sequential(nn.Linear(64, 8))
NOT_BUILT: list[tuple[str, nn.Module, str, str, str, str, str]] = [
    (
        "device",
        LINEAR,
        "pixel-9:coreml",
        "w8",
        "refused",
        "FER-DEV-002",
        "Pixel 9 ('pixel-9') cannot take target 'coreml'",
    ),
    ("no layer", nn.Sequential(nn.ReLU()), "pixel-9:litert", "w8a8", "failed", "FER-REC-002", "'w8a8' found no layer"),
    ("no table", LINEAR, "pixel-9:litert", "w8-emb8", "failed", "FER-REC-002", "'emb8' found no layer"),
    ("export", Branches(), "iphone-13:coreml", "fp", "failed", "FER-CAP-001", "return x if x.sum() > 0 else -x"),
]


@pytest.mark.parametrize(
    ("module", "device", "recipe", "status", "code", "told"), [n[1:] for n in NOT_BUILT], ids=[n[0] for n in NOT_BUILT]
)
def test_what_is_not_built_has_a_status_a_code_and_a_next_step(
    module: nn.Module, device: str, recipe: str, status: str, code: str, told: str, tmp_path: Path
) -> None:
    (result,) = deploy(module, X, devices=[device], recipe=recipe, out=tmp_path / "out")
    assert (result.status, result.code) == (status, code) and told in str(result.reason) and result.hint
    name, _, target = device.partition(":")
    assert (result.device, result.target, result.recipe) == (name, target, recipe)
    assert result.bundle is None and result.parity is None
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["build.json"]
    (row,) = json.loads((tmp_path / "out" / "build.json").read_text())["results"]
    told = json.loads(json.dumps(result.to_json()))
    assert row == {name: value for name, value in told.items() if name != "cached"} and not result.cached


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        ({"devices": ["pixel-99"]}, DeviceError, "FER-DEV-001"),
        ({"devices": "pixel9"}, DeviceError, "FER-DEV-001"),
        ({"devices": ["pixel-9:abacus"]}, TargetError, "FER-TGT-001"),
        ({"devices": []}, UsageError, "FER-USE-001"),
        ({"recipe": []}, UsageError, "FER-USE-001"),
        ({"recipe": "w9"}, RecipeError, "FER-REC-001"),
        ({"recipe": ["w8", {"step": []}]}, RecipeError, "FER-REC-003"),
        ({"out": "/proc/ferrule"}, OutputError, "FER-OUT-001"),
    ],
)
def test_names_that_are_not_known_raise_before_any_work(
    given: Mapping[str, Any], kind: type[FerruleError], code: str, tmp_path: Path
) -> None:
    known = {"devices": ["pixel-9"], "out": tmp_path / "out"}
    with pytest.raises(kind) as caught:
        deploy(LINEAR, X, **{**known, **given})
    assert caught.value.code == code and not (tmp_path / "out").exists()


def test_an_output_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for call in (
        lambda: deploy(LINEAR, X, devices=["pixel-9"], out=tmp_path / "file" / "out"),
        lambda: lower(LINEAR, "pixel-9", tmp_path / "file" / "out", example_inputs=X),
    ):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            call()
        assert caught.value.code == "FER-OUT-001" and str(tmp_path / "file" / "out") in caught.value.message


def test_lowering_into_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"status": "ok"}')
    with pytest.raises(OutputError, match="is not empty") as caught:
        lower(LINEAR, "pixel-9", tmp_path, example_inputs=X)
    assert caught.value.code == "FER-OUT-002"


def test_destinations_are_a_device_and_perhaps_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_destination("pixel-9").target == "litert" and parse_destination("pixel-9:tflite").target == "litert"
    assert parse_destination("iphone-13:").target == "coreml"
    refused = parse_destination("pixel-9:coreml")
    assert refused.target == "coreml" and refused.refusal is not None and refused.refusal.code == "FER-DEV-002"
    monkeypatch.setattr("ferrule.flow.missing_packages", lambda target: ["onnxruntime"])
    missing = parse_destination("raspberry-pi-5:ort").refusal
    assert missing is not None and missing.code == "FER-TGT-002"
    assert "needs onnxruntime" in missing.message and "pip install 'ferrule[onnx]'" in missing.hint


def spoil(path: Path) -> None:
    path.write_text("{")


@pytest.mark.parametrize("before", [lambda path: None, spoil, lambda path: path.write_text('{"results": [3]}')])
def test_rows_of_a_build_folder_are_kept_by_device_target_and_recipe(
    before: Callable[[Path], object], tmp_path: Path
) -> None:
    before(tmp_path / "build.json")
    write_results([Result("a", "onnx", "w8", "failed"), Result("b", "onnx", "w8", "failed")], tmp_path)
    write_results([Result("a", "onnx", "w8", "ok", bundle="/elsewhere/a.ferrule")], tmp_path)
    rows = json.loads((tmp_path / "build.json").read_text())["results"]
    assert [(r["device"], r["status"], r["bundle"]) for r in rows] == [("a", "ok", "a.ferrule"), ("b", "failed", None)]
    assert [p.name for p in tmp_path.iterdir()] == ["build.json"]


@pytest.mark.slow
def test_the_steps_by_hand_give_the_same_as_deploy(tmp_path: Path) -> None:
    model = compress(LINEAR, "w8", example_inputs=X)
    program = lower(model, "raspberry-pi-5:onnx", tmp_path / "program")
    made = ferrule.pack(program, model, tmp_path / "net.ferrule", device="raspberry-pi-5", recipe="w8")
    assert program.parity is not None and ferrule.check(made.root).ok
    (result,) = deploy(
        model=LINEAR, example_inputs=X, devices=["raspberry-pi-5:onnx"], recipe="w8", out=tmp_path / "out"
    )
    assert result.status == "ok" and result.bundle is not None
    assert ferrule.Bundle.open(result.bundle).manifest == made.manifest
