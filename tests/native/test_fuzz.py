"""No argument crashes an op; fuzz.py, which says how, runs in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ferrule.runtime import _C

SCRIPT = Path(__file__).with_name("fuzz.py")
NO_OPS = {"KernelTypeError", "KernelValueError", "Pool", "active_isa", "isas", "kernels"}
PROGRAMS = {"Program", "ProgramError", "checksum"}
"""test_program.py spoils these in ways of its own."""


@pytest.mark.slow
def test_wrong_arguments_are_refused_and_never_crash() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "20000"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {m[1]: (int(m[2]), int(m[3])) for m in re.finditer(r"([\w.]+): (\d+) done, (\d+) refused", done.stdout)}
    public = {name for name in vars(_C) if not name.startswith("_")}
    assert {op.partition(".")[0] for op in counts} == public - NO_OPS - PROGRAMS
    assert all(finished > 0 and refused > 0 for finished, refused in counts.values()), counts
