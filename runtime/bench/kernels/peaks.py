"""What the machine can do at most, measured: the denominators of every share of the roofline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ferrule.runtime.bench.kernels.case import Work

__all__ = ["BLOCKS", "Peaks", "measure_peaks"]

BLOCKS = (32 << 10, 1 << 20, 8 << 20, 32 << 20, 384 << 20)
"""Bytes of a thread's block in which reading is measured: within the first, second and third level, and beyond."""
SECONDS = 0.15
TRIES = 5


@dataclass(frozen=True)
class Peaks:
    """Of all threads together. fma_gflops: float32; dot_i8_gops: int8 products; both 2 operations a multiply-add.

    read_gbps: bytes of a thread's block -> GB/s. dot_bf16_gflops: bfloat16 products, 2 operations each as well; None
    where the processor has no instruction for them. No kernel uses it: it tells whether one would be worth having.
    """

    threads: int
    isa: str
    fma_gflops: float
    dot_i8_gops: float
    read_gbps: dict[int, float]
    dot_bf16_gflops: float | None = None

    def limit_us(self, work: Work) -> float:
        """The least time that the work takes here: its slowest part, computing or reading, at the measured peak."""
        compute = work.float_ops / self.fma_gflops + work.int8_ops / self.dot_i8_gops
        return max(compute, work.bytes / self.bandwidth(work.footprint)) / 1e3

    def bandwidth(self, footprint: float) -> float:
        """GB/s of the smallest measured block that about holds a thread's share of the footprint, or of the largest."""
        share = 0.8 * footprint / self.threads
        return self.read_gbps[next((block for block in BLOCKS if block >= share), BLOCKS[-1])]

    def to_json(self) -> dict[str, Any]:
        """Plain dict; sizes of blocks as `32 KB`."""
        told = asdict(self)
        told["read_gbps"] = {f"{block >> 10} KB": round(value, 1) for block, value in self.read_gbps.items()}
        rates = ("fma_gflops", "dot_i8_gops", "dot_bf16_gflops")
        return told | {name: told[name] and round(told[name], 1) for name in rates}


def measure_peaks(threads: int) -> Peaks:
    """The best of several tries each, all threads at work at once: what disturbs one is not the machine's limit."""
    from ferrule.runtime import _C

    isa = _C.active_isa()
    fma = _rate(threads, lambda units: _C.peak("fma", units))
    dot_i8 = _rate(threads, lambda units: _C.peak("dot_i8", units))
    read = {}
    for block in BLOCKS:
        memories = [_aligned(block) for _ in range(threads)]
        turn = iter(memories * (TRIES + 2))
        local = threading.local()

        def load(units: int, turn: Any = turn, local: Any = local) -> float:
            if not hasattr(local, "memory"):
                local.memory = next(turn)
            return _C.peak("read", units, memory=local.memory)

        read[block] = _rate(threads, load)
    return Peaks(threads, isa, fma, dot_i8, read, _rate_bf16(threads))


def _rate_bf16(threads: int) -> float | None:
    from ferrule.runtime import _C

    try:
        return _rate(threads, lambda units: _C.peak("dot_bf16", units, isa="avx512_bf16"))
    except _C.KernelValueError:  # FER-KER-005: this processor or build lacks it
        return None


def _aligned(count: int) -> Any:
    room = np.ones(count + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + count]


def _rate(threads: int, work: Callable[[int], float]) -> float:
    """Giga-units a second, of all threads; `work` returns how much it did."""
    start = time.perf_counter()
    work(1)
    units = max(1, int(SECONDS / TRIES / max(time.perf_counter() - start, 1e-7)))
    found = []
    for _ in range(TRIES):
        gate = threading.Barrier(threads)
        rates = [0.0] * threads

        def run(index: int, gate: Any = gate, rates: Any = rates) -> None:
            work(1)
            gate.wait()
            start = time.perf_counter()
            done = work(units)
            rates[index] = done / (time.perf_counter() - start) / 1e9

        workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        found.append(sum(rates))
    return max(found)
