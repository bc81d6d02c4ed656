"""The LiteRT engine: ai-edge-litert's interpreter, or tflite-runtime's where numpy is older than 2."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.errors import BundleError
from ferrule.program import Signature, bucket_name
from ferrule.runtime.profile import Profile, refuse_profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LiteRtEngine", "open_engine"]


def open_engine(path: Path, entry_points: Mapping[str, Signature], threads: int) -> LiteRtEngine:
    """Open a .tflite file.

    Raises ImportError where no runtime is installed, BundleError FER-BUN-020 for a file that the runtime refuses
    (damaged, or with ops newer than the runtime).
    """
    name, interpreter_type = _find_runtime()
    try:
        interpreter = interpreter_type(model_path=str(path), num_threads=threads)
    except (ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise BundleError(
            "FER-BUN-020",
            f"{name} cannot open {path.name}: {reason}.",
            "Build the file again, or install the version of ai-edge-litert that the manifest names.",
        ) from error
    return LiteRtEngine(name, interpreter, entry_points)


class LiteRtEngine:
    """One interpreter with a runner for each program; tensors are allocated at a program's first run and kept."""

    def __init__(self, name: str, interpreter: Any, entry_points: Mapping[str, Signature]) -> None:
        self.name = name
        self._interpreter = interpreter
        self._runners: dict[str, Any] = {}
        self._outputs = {
            program: [spec.name for spec in signature.outputs]
            for entry, signature in entry_points.items()
            for program in _programs(entry, signature)
        }

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs of a program (an entry point, or one of its buckets) in the signature's order."""
        if program not in self._runners:
            self._runners[program] = self._interpreter.get_signature_runner(program)
        results = self._runners[program](**inputs)
        return [results[name] for name in self._outputs[program]]

    def profile(self, program: str, inputs: Mapping[str, NDArray[Any]], runs: int) -> list[Profile]:
        """Raises TargetError FER-TGT-005."""
        raise refuse_profile(self.name, "its Python package has no profiler")

    def reset(self) -> None:
        """Nothing: the artefact keeps no state."""

    def close(self) -> None:
        """Release the interpreter and its memory."""
        self._runners.clear()
        self._interpreter = None


def _programs(entry: str, signature: Signature) -> list[str]:
    return [bucket_name(entry, length) for length in signature.buckets] or [entry]


def _find_runtime() -> tuple[str, Any]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        # tflite-runtime was built against numpy 1 and crashes under numpy 2.
        if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
            raise
        from tflite_runtime.interpreter import Interpreter

        return "tflite-runtime", Interpreter
    return "litert", Interpreter
