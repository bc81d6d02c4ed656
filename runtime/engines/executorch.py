"""Engine of .pte files: ExecuTorch's own runtime, as its Python wheel brings it.

The wheel's bindings take and return torch tensors, so torch is loaded. The number of threads belongs to the process:
the wheel has one thread pool for all programs, and opening an engine sets it for those that are open already.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.errors import BundleError
from ferrule.hush import hush
from ferrule.program import Signature
from ferrule.runtime.profile import Profile, refuse_profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ExecutorchEngine", "open_engine"]


class ExecutorchEngine:
    """Methods of one program; a method is loaded (and its weights packed) when it first runs."""

    name = "executorch"

    def __init__(self, program: Any, entry_points: Mapping[str, Signature]) -> None:
        self._program = program
        self._entry_points = entry_points
        self._methods: dict[str, Any] = {}

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs of a method in the signature's order, as copies: the runtime reuses its memory."""
        import torch

        if program not in self._methods:
            self._methods[program] = self._program.load_method(program)
        names = [spec.name for spec in self._entry_points[program].inputs]
        tensors = [torch.from_numpy(_writable(inputs[name])) for name in names]
        outputs = self._methods[program](tensors, clone_outputs=True)
        return [output.numpy() for output in outputs]

    def profile(self, program: str, inputs: Mapping[str, NDArray[Any]], runs: int) -> list[Profile]:
        """Raises TargetError FER-TGT-005."""
        raise refuse_profile(self.name, "its wheel is built without the event tracer")

    def reset(self) -> None:
        """Drop the methods: one that is loaded again begins with the file's own values."""
        self._methods.clear()

    def close(self) -> None:
        """Drop the methods, then the program that they point into."""
        self._methods.clear()
        self._program = None


def open_engine(path: Path, entry_points: Mapping[str, Signature], threads: int = 1) -> ExecutorchEngine:
    """Load a .pte with its structure verified, and give the process's thread pool `threads` threads.

    Raises BundleError FER-BUN-021 when the file is damaged or made for another runtime.
    """
    with hush(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from executorch.extension.pybindings import portable_lib
        from executorch.kernels import quantized  # noqa: F401  registers the quantized kernels
    _set_threads(portable_lib, threads)
    try:
        program = portable_lib._load_program(
            str(path), program_verification=portable_lib.Verification.InternalConsistency
        )
    except RuntimeError as error:
        raise BundleError(
            "FER-BUN-021", f"ExecuTorch does not load {path.name}: {str(error).splitlines()[0]}.", "Build it again."
        ) from error
    return ExecutorchEngine(program, entry_points)


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
