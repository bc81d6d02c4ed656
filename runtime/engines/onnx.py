"""ONNX Runtime on the CPU: one session for each entry point's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from platform import machine
from typing import TYPE_CHECKING, Any

from ferrule.errors import BundleError
from ferrule.program import Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OnnxEngine", "open_engine"]


class OnnxEngine:
    """See `ferrule.runtime.session.Engine`."""

    name = "onnxruntime"

    def __init__(self, sessions: Mapping[str, Any], outputs: Mapping[str, list[str]]) -> None:
        self._sessions, self._outputs = dict(sessions), outputs

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs in the signature's order; `program` is the name of an entry point."""
        results: list[NDArray[Any]] = self._sessions[program].run(self._outputs[program], dict(inputs))
        return results

    def reset(self) -> None:
        """Nothing: the artefact keeps no state."""

    def close(self) -> None:
        """Drop the sessions, and with them their memory."""
        self._sessions.clear()


def open_engine(path: Path, entry_points: Mapping[str, Signature], threads: int) -> OnnxEngine:
    """Open `<entry point>.onnx` beside `path` for each entry point, on `threads` threads.

    Raises BundleError FER-BUN-020 for a file that ONNX Runtime refuses.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if _overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        sessions = {
            name: ort.InferenceSession(str(path.with_name(f"{name}.onnx")), options, providers=["CPUExecutionProvider"])
            for name in entry_points
        }
    except Exception as error:  # its exceptions share no base class of their own
        first = str(error).strip().splitlines()[0][:300]
        raise BundleError(
            "FER-BUN-020", f"ONNX Runtime does not load {path.name}: {first}", "Build it again."
        ) from error
    outputs = {name: [spec.name for spec in s.outputs] for name, s in entry_points.items()}
    return OnnxEngine(sessions, outputs)


def _overflows() -> bool:
    """Whether fast integer kernels here add products of 8-bit numbers in 16 bits, which can overflow.

    That is so on x86 processors without VNNI. ONNX Runtime then has exact, slower kernels on request.
    """
    if machine().lower() not in ("x86_64", "amd64"):
        return False
    cpu = Path("/proc/cpuinfo")
    return not (cpu.exists() and "vnni" in cpu.read_text(encoding="utf-8"))
