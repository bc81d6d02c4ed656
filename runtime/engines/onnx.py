"""ONNX Runtime on the CPU: one session for each entry point's file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from platform import machine
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ferrule.errors import BundleError
from ferrule.program import Signature
from ferrule.runtime.profile import OpTime, Profile
from ferrule.runtime.vendor_ops import built, library_path, onnx_ops

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OnnxEngine", "add_our_ops", "open_engine"]

_KERNEL = "_kernel_time"


class OnnxEngine:
    """See `ferrule.runtime.session.Engine`."""

    name = "onnxruntime"

    def __init__(self, path: Path, sessions: Mapping[str, Any], outputs: Mapping[str, list[str]], threads: int) -> None:
        self._path, self._threads = path, threads
        self._sessions, self._outputs = dict(sessions), outputs

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs in the signature's order; `program` is the name of an entry point."""
        results: list[NDArray[Any]] = self._sessions[program].run(self._outputs[program], dict(inputs))
        return results

    def profile(self, program: str, inputs: Mapping[str, NDArray[Any]], runs: int) -> list[Profile]:
        """Every node of each run, in a session of its own: the profiler of an open one cannot be turned on.

        Its first run is not told: in it ONNX Runtime packs weights and plans memory.
        """
        with TemporaryDirectory(prefix="ferrule-profile-") as folder:
            options = _options(self._threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "run")
            session = _open(self._path.with_name(f"{program}.onnx"), options)
            for _ in range(runs + 1):
                session.run(self._outputs[program], dict(inputs))
            events = json.loads(Path(session.end_profiling()).read_text())
        return [Profile(self.name, seconds, ops) for seconds, ops in _runs(events)][1:]

    def reset(self) -> None:
        """Nothing: the artefact keeps no state."""

    def close(self) -> None:
        """Drop the sessions, and with them their memory."""
        self._sessions.clear()


def open_engine(path: Path, entry_points: Mapping[str, Signature], threads: int) -> OnnxEngine:
    """Open `<entry point>.onnx` beside `path` for each entry point, on `threads` threads.

    Raises BundleError FER-BUN-020 for a file that ONNX Runtime refuses, TargetError FER-TGT-006 when it calls our
    kernels and their library was not built.
    """
    options = _options(threads)
    try:
        sessions = {name: _open(path.with_name(f"{name}.onnx"), options) for name in entry_points}
    except Exception as error:  # its exceptions share no base class of their own
        if "ferrule:" in str(error):
            library_path("onnxruntime")
        first = str(error).strip().splitlines()[0][:300]
        raise BundleError(
            "FER-BUN-020", f"ONNX Runtime does not load {path.name}: {first}", "Build it again."
        ) from error
    outputs = {name: [spec.name for spec in s.outputs] for name, s in entry_points.items()}
    return OnnxEngine(path, sessions, outputs, threads)


def _options(threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    if _overflows():
        options.add_session_config_entry("session.x64quantprecision", "1")
    add_our_ops(options, threads)
    return options


def _open(path: Path, options: Any) -> Any:
    import onnxruntime as ort

    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _runs(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, tuple[OpTime, ...]]]:
    """Seconds of each run and its nodes. The event of a run comes after those of its nodes, times in microseconds."""
    ops: list[OpTime] = []
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"].removesuffix(_KERNEL).partition("/")[0]  # of the captured graph's node
            ops.append(OpTime(event["args"]["op_name"], name, 1e-6 * event["dur"]))
        elif event["name"] == "model_run":
            yield 1e-6 * event["dur"], tuple(ops)
            ops = []


def add_our_ops(options: Any, threads: int) -> None:
    """Let a session's files call our kernels, on so many threads for all sessions, where their library was built."""
    if built("onnxruntime"):
        onnx_ops().ferrule_onnxruntime_threads(threads)
        options.register_custom_ops_library(str(library_path("onnxruntime")))


def _overflows() -> bool:
    """Whether fast integer kernels here add products of 8-bit numbers in 16 bits, which can overflow.

    That is so on x86 processors without VNNI. ONNX Runtime then has exact, slower kernels on request.
    """
    if machine().lower() not in ("x86_64", "amd64"):
        return False
    cpu = Path("/proc/cpuinfo")
    return not (cpu.exists() and "vnni" in cpu.read_text(encoding="utf-8"))
