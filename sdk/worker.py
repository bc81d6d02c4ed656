"""The worker process: lower one captured model to one target, run the artefact, compare, and tell the parent.

    python -m ferrule.worker JOB_FOLDER

Vendors' compilers leak, print, crash and hold globals: each lowering has a process of its own. The job folder holds
`job.json`; the worker leaves `program/`, `result.json` and `log.txt` there. On standard output it prints one JSON line
for each step of progress and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ferrule.atomic import write_json
from ferrule.disk import full_disk, is_full, remove_tree
from ferrule.errors import FerruleError, LoweringError
from ferrule.program import Program, Signature

__all__ = ["end_with_parent", "main", "read_graphs", "write_graphs"]


def write_graphs(graphs: Mapping[str, Any], folder: Path) -> None:
    """Save captured entry points as `<name>.pt2` with their signatures."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    signatures = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own archive format
        for name, graph in graphs.items():
            torch.export.save(graph.program, folder / f"{name}.pt2")
            signatures[name] = graph.signature.to_json()
    (folder / "signatures.json").write_text(json.dumps(signatures))


def read_graphs(folder: Path) -> dict[str, Any]:
    """Read what `write_graphs` wrote."""
    import torch

    import ferrule.coded
    import ferrule.runtime.torch_ops
    import ferrule.techniques.tokens.merge_op  # noqa: F401  the graphs call the ops of all
    from ferrule.model import Captured

    signatures = json.loads((folder / "signatures.json").read_text())
    return {
        name: Captured(torch.export.load(folder / f"{name}.pt2"), Signature.from_json(signature))
        for name, signature in signatures.items()
    }


def main(folder: Path) -> int:
    """Run the job in `folder`; the exit code is 0 whenever a result was written, good or bad."""
    tell = _take_over_output(folder / "log.txt")
    job = json.loads((folder / "job.json").read_text())
    try:
        program = _lower(job, folder, tell)
        program = _prove(job, program, tell)
        result: dict[str, Any] = {"status": "ok", "program": program.to_json()}
    except Exception as error:
        known = _explain(error, job, folder)
        remove_tree(folder / "program")  # room for the result
        result = {"status": "failed", "code": known.code, "reason": known.message, "hint": known.hint}
    write_json(folder / "result.json", result)
    return 0


def _take_over_output(log: Path) -> Callable[..., None]:
    """Send whatever toolkits print to the log; return the function that writes progress to the real output."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)

    def tell(phase: str, done: int = 0, total: int = 0) -> None:
        channel.write(json.dumps({"phase": phase, "done": done, "total": total}) + "\n")

    return tell


def _lower(job: Mapping[str, Any], folder: Path, tell: Callable[..., None]) -> Program:
    from ferrule.converters import find_target
    from ferrule.device_profiles import load

    tell("loading")
    graphs = read_graphs(Path(job["graphs"]))
    tell("lowering")
    out = folder / "program"
    out.mkdir()
    target = find_target(job["target"])
    options = {"kernels": job["kernels"]} if target.kernels else {}
    program: Program = target.lower()(graphs, load(job["device"]), out, job["expand"], **options)
    from dataclasses import replace

    return replace(program, root=out)


def _prove(job: Mapping[str, Any], program: Program, tell: Callable[..., None]) -> Program:
    from dataclasses import replace

    from ferrule.proof import load_proof, prove
    from ferrule.runtime.session import open_program

    assert program.root is not None
    proof = load_proof(Path(job["proof"]))
    tell("proving", 0, len(proof.inputs))
    with open_program(program.root / program.main, program.target, program.entry_points) as session:
        parity = prove(session, proof, lambda done, total: tell("proving", done, total))
    return replace(program, parity=parity)


def _explain(error: Exception, job: Mapping[str, Any], folder: Path) -> FerruleError:
    import traceback

    own = isinstance(error, FerruleError)
    if (not own or error.__cause__ is not None) and is_full(error, folder):
        return _full(job, folder)
    if isinstance(error, FerruleError):
        return error
    traceback.print_exc()
    return _unexpected(job["target"], error)


def _full(job: Mapping[str, Any], folder: Path) -> FerruleError:
    """An artefact is about as large as the graphs that it is made from, and is written twice by some toolkits."""
    return full_disk(folder, 2 * sum(p.stat().st_size for p in Path(job["graphs"]).iterdir()))


def _unexpected(target: str, error: Exception) -> LoweringError:
    first = (str(error).strip().splitlines() or ["no message"])[0][:300]
    return LoweringError(
        "FER-LOW-009",
        f"Lowering to {target} raised {type(error).__name__}: {first}",
        "The log holds the toolkit's own words.",
    )


def end_with_parent() -> None:
    """End this process, and all that it started, as soon as the one that started it is gone, however that ended.

    The parent holds the other end of this process's standard input, a pipe, and writes nothing there.
    """
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def watch() -> None:
        while os.read(0, 1):
            pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(Path(sys.argv[1])))
