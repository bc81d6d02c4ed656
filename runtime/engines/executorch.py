"""Engine of .pte files: ExecuTorch's own runtime, as its Python wheel brings it.

The wheel's bindings take and return torch tensors, so torch is loaded. The number of threads belongs to the process:
the wheel has one thread pool for all programs, and opening an engine sets it for those that are open already. So it is
with our own kernels, which programs call as `ferrule::….out`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from ctypes import CDLL
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.errors import BundleError
from ferrule.hush import hush
from ferrule.program import Signature
from ferrule.runtime.profile import Profile, refuse_profile
from ferrule.runtime.vendor_ops import executorch_ops

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ExecutorchEngine", "open_engine"]


class ExecutorchEngine:
    """Methods of one program; a method is loaded (and its weights packed) when it first runs.

    ops: the library of our kernels, where the program calls them.
    """

    name = "executorch"

    def __init__(self, program: Any, entry_points: Mapping[str, Signature], ops: CDLL | None = None) -> None:
        self._program = program
        self._ops = ops
        self._entry_points = entry_points
        self._methods: dict[str, Any] = {}

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs of a method in the signature's order, as copies: the runtime reuses its memory."""
        import torch

        if program not in self._methods:
            self._methods[program] = self._program.load_method(program)
        names = [spec.name for spec in self._entry_points[program].inputs]
        tensors = [torch.from_numpy(_writable(inputs[name])) for name in names]
        try:
            outputs = self._methods[program](tensors, clone_outputs=True)
        except RuntimeError as error:
            if self._ops is not None and (refusal := self._ops.ferrule_executorch_refusal()):
                error.add_note(refusal.decode())
            raise
        return [output.numpy() for output in outputs]

    def profile(self, program: str, inputs: Mapping[str, NDArray[Any]], runs: int) -> list[Profile]:
        """Raises TargetError FER-TGT-005."""
        raise refuse_profile(self.name, "its wheel is built without the event tracer")

    def reset(self) -> None:
        """Drop the methods: one that is loaded again begins with the file's own values."""
        self._methods.clear()

    def close(self) -> None:
        """Drop the methods, then the program that they point into, and what our kernels packed of it."""
        self._methods.clear()
        self._program = None
        if self._ops is not None:
            self._ops.ferrule_executorch_forget()


def open_engine(path: Path, entry_points: Mapping[str, Signature], threads: int = 1) -> ExecutorchEngine:
    """Load a .pte with its structure verified, and give the process's thread pool `threads` threads.

    Raises BundleError FER-BUN-021 when the file is damaged or made for another runtime, TargetError FER-TGT-006 when it
    calls our kernels and their library was not built.
    """
    with hush(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from executorch.extension.pybindings import portable_lib
        from executorch.kernels import quantized  # noqa: F401  registers the quantized kernels
    _set_threads(portable_lib, threads)
    ops = executorch_ops() if _calls_our_ops(path) else None
    if ops is not None:
        ops.ferrule_executorch_threads(threads)
    try:
        program = portable_lib._load_program(
            str(path), program_verification=portable_lib.Verification.InternalConsistency
        )
    except RuntimeError as error:
        raise BundleError(
            "FER-BUN-021", f"ExecuTorch does not load {path.name}: {str(error).splitlines()[0]}.", "Build it again."
        ) from error
    return ExecutorchEngine(program, entry_points, ops)


def _calls_our_ops(path: Path) -> bool:
    """Whether the program names one: its text stands before the weights, whose place the header tells."""
    with path.open("rb") as file:
        head = file.read(24)
        length = int.from_bytes(head[16:24], "little") if head[8:12] == b"eh00" else -1
        file.seek(0)
        return b"ferrule::" in file.read(length)


def _set_threads(portable_lib: Any, threads: int) -> None:
    """Size the pool. The C++ side reports what it reads about the CPU on stderr; that is kept off the terminal."""
    kept, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.flags.writeable else np.array(array)
