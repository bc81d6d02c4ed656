"""Benchmarks that end early: what was measured is kept, what measured ends too, and no table is made of a part."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FERRULE = "import sys; from ferrule.cli import main; sys.argv[0] = 'ferrule'; main()"
PATIENCE_S = 60
COMMANDS = {
    "kernels": ["--op", "activate", "--op", "softmax", "--rounds", "50"],
    "models": ["--model", "vit", "--rounds", "20"],
}


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def children(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        found |= {int(word) for word in (task / "children").read_text().split()}
    return found


def is_there(pid: int) -> bool:
    """Whether a process lives; one that only its parent's question keeps in the table does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_keeps_what_was_measured(name: str, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    words = ["bench", name, "--peer", "torch", *COMMANDS[name], "-o", str(out), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", FERRULE, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(out.is_file)
    early: dict[str, Any] = json.loads(out.read_text())
    measuring = children(process.pid)
    process.send_signal(signal.SIGINT)
    printed, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    kept: dict[str, Any] = json.loads(out.read_text())
    assert early["complete"] is False and kept["complete"] is False
    assert early["rows"] and kept["rows"][: len(early["rows"])] == early["rows"]
    assert json.loads(printed) == kept
    assert f"{len(kept['rows'])} rows, kept in {out} as incomplete" in err
    assert measuring and not any(is_there(pid) for pid in measuring)


@pytest.mark.skipif(sys.platform != "linux", reason="the system ends processes with their parent on Linux alone")
def test_stopped_processes_end_with_the_one_that_measures() -> None:
    line = (
        "import os, signal; from ferrule.runtime.bench.process import Process\n"
        "process = Process('ferrule.runtime.bench.kernels.worker', 'ferrule', '1', threads=1)\n"
        "process.ask(do='forget'); print(process.process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", line], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    try:
        wait_for(lambda: not is_there(pid))
    finally:
        if is_there(pid):
            os.kill(pid, signal.SIGKILL)


def test_no_table_is_made_of_a_part(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "tools" / "tables.py")
    assert spec is not None and spec.loader is not None
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    path = tmp_path / "models.json"
    path.write_text(json.dumps({"command": "ferrule bench models", "complete": False, "rows": [], "footprints": []}))
    tables.MODELS_FOUND = path
    for table in (tables.models_table, tables.footprints_table):
        with pytest.raises(SystemExit, match="not complete: run to its end `ferrule bench models`"):
            table()
