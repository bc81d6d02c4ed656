"""What a row of the benchmark is made of: one piece of work, and the ways to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OURS", "PACKAGES", "Body", "Build", "Case", "Work", "package_of"]

OURS = "ferrule"
PACKAGES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino", "llama.cpp": "llama_cpp"}
"""Peers, and the module that each is imported by."""

Body = Callable[[int], Any]
"""Does the work once; the argument counts up, so that the body goes through its copies of the weights."""

Build = Callable[[int], Body]
"""Makes the body for a number of threads, outside of the timing."""


@dataclass(frozen=True)
class Work:
    """What one call must do at least. Operations: 2 for a multiply-add. bytes: read or written, each once.

    footprint: bytes that successive calls go through, all copies of the weights counted; it tells in which level of
    memory they lie.
    """

    float_ops: float = 0
    int8_ops: float = 0
    bytes: float = 0
    footprint: float = 0


@dataclass(frozen=True)
class Case:
    """ways: `ferrule`, and peers as `package` or `package variant`, each with what builds it."""

    op: str
    shape: str
    dtype: str
    work: Work
    ways: Mapping[str, Build]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Op, shape and dtype, one case each."""
        return f"{self.op} {self.shape} {self.dtype}"


def package_of(way: str) -> str:
    """`torch _int_mm` is done by the package `torch`."""
    return way.partition(" ")[0]
