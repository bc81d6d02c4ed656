"""Shared by all tests: one OpenMP thread a process, since the tests run in two processes on two cores, and a cache of
their own."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole run, shared by its processes, never the user's."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ferrule-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FERRULE_CACHE", str(folder))
        yield folder
