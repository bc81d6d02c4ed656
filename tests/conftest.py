"""Shared by all tests: one OpenMP thread a process, since the tests run in two processes on two cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
