"""Pools of threads: their life, their use from several callers, and after a fork."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from ferrule.runtime import _C

FORKS = """
import os
import numpy as np
from ferrule.runtime import _C
rows = np.random.default_rng(0).normal(size=(2000, 64)).astype(np.float32)
pool = _C.Pool(3)
want = _C.layer_norm(rows, pool=pool)
child = os.fork()
if child == 0:
    same = np.array_equal(_C.layer_norm(rows, pool=pool), want)
    pool.close()
    os._exit(0 if same else 1)
assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(_C.layer_norm(rows, pool=pool), want)
"""


def rows() -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).normal(size=(3000, 96)).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_change_nothing(threads: int) -> None:
    x = rows()
    with _C.Pool(threads) as pool:
        assert pool.threads == threads
        np.testing.assert_array_equal(_C.layer_norm(x, pool=pool), _C.layer_norm(x))


def test_a_closed_pool_is_refused() -> None:
    pool = _C.Pool(2)
    pool.close()
    pool.close()
    with pytest.raises(_C.KernelValueError, match="^FER-KER-004 pool"):
        _C.layer_norm(rows(), pool=pool)


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**70])
def test_counts_out_of_range_are_refused(threads: int) -> None:
    with pytest.raises(_C.KernelValueError, match="^FER-KER-004 threads"):
        _C.Pool(threads)


def test_other_kinds_are_refused() -> None:
    for value in ("2", 2.0, None):
        with pytest.raises(_C.KernelTypeError, match="^FER-KER-001 threads"):
            _C.Pool(value)  # type: ignore[arg-type]
    with pytest.raises(_C.KernelTypeError, match="^FER-KER-001 pool"):
        _C.layer_norm(rows(), pool=2)  # type: ignore[arg-type]


def test_callers_may_share_a_pool_and_close_it_meanwhile() -> None:
    x = rows()
    want = _C.layer_norm(x)
    pool = _C.Pool(2)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            try:
                if not np.array_equal(_C.layer_norm(x, pool=pool), want):
                    wrong.append("differs")
            except _C.KernelValueError as error:
                if not str(error).startswith("FER-KER-004 pool"):
                    wrong.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    time.sleep(0.02)
    pool.close()
    for worker in workers:
        worker.join()
    assert not wrong


def test_the_interpreter_runs_while_a_kernel_does() -> None:
    worker = threading.Thread(target=lambda: _C.peak("fma", 3000, isa="scalar"))
    worker.start()
    turns = 0
    while worker.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns > 10


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_computes_alone_and_ends() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
