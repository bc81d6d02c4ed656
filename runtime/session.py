"""Session: open a bundle, pick its engine, run entry points on numpy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ferrule.errors import InputError, TargetError, UsageError
from ferrule.program import Signature, TensorSpec, bucket_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.runtime.profile import Profile

__all__ = ["ENGINES", "Engine", "Fitted", "Session", "open_program"]

ENGINES = {
    "coreml": "ferrule.runtime.engines.coreml:open_engine",
    "executorch": "ferrule.runtime.engines.executorch:open_engine",
    "executorch-coreml": "ferrule.runtime.engines.coreml:open_engine",
    "litert": "ferrule.runtime.engines.litert:open_engine",
    "native": "ferrule.runtime.engines.native:open_engine",
    "onnx": "ferrule.runtime.engines.onnx:open_engine",
}


class Engine(Protocol):
    """What an engine file returns from `open_engine(path, entry_points, threads)`.

    `name` says what really runs (`onnxruntime`, `coreml-reference`, …). `run` takes the name of a program in the file
    (the entry point, or `bucket_name(entry point, length)`) and inputs in the artefact's own shapes and dtypes, and
    returns outputs in the signature's order. `profile` runs it some times and tells each run's ops with their times; an
    engine that cannot raises TargetError FER-TGT-005. `reset` puts states, where a target has them, back to their first
    values.
    """

    name: str

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]: ...

    def profile(self, program: str, inputs: Mapping[str, NDArray[Any]], runs: int) -> list[Profile]: ...

    def reset(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Fitted:
    """One call of an artefact: entry point, the program that runs, its inputs, and lengths of dynamic axes."""

    entry_point: str
    program: str
    arrays: Mapping[str, NDArray[Any]]
    lengths: Mapping[str, int]


def open_program(path: Path, target: str, entry_points: Mapping[str, Signature], threads: int = 1) -> Session:
    """A session on a bare artefact; raises TargetError FER-TGT-002 if the engine's package is missing."""
    module, _, name = ENGINES[target].partition(":")
    try:
        engine: Engine = getattr(import_module(module), name)(path, entry_points, threads)
    except ImportError as error:
        raise TargetError(
            "FER-TGT-002",
            f"The engine of target {target!r} is not installed: {error}.",
            f"Run: pip install 'ferrule[{target.split('-')[0]}]'",
        ) from error
    return Session(engine, entry_points)


class Session:
    """An opened artefact. Threads that share one take turns; open one for each to run at the same time."""

    def __init__(self, engine: Engine, entry_points: Mapping[str, Signature], files: object = None) -> None:
        self.engine = engine
        self.entry_points = entry_points
        self._files = files  # keeps an unpacked archive on disk: engines read lazily
        self._turn = Lock()
        self._closed = False

    @staticmethod
    def open(bundle: str | Path, threads: int = 1) -> Session:
        """Open a bundle (directory or .zip) after verifying its hashes; raises BundleError FER-BUN-…."""
        from ferrule.bundle import Bundle

        opened = Bundle.open(bundle)
        opened.verify()
        session = open_program(opened.root / opened.main, opened.target, opened.entry_points, threads)
        return Session(session.engine, session.entry_points, opened)

    def run(self, inputs: Mapping[str, Any], entry_point: str | None = None) -> dict[str, NDArray[Any]]:
        """Outputs by name. Inputs are padded up to the next bucket where the artefact has static programs only.

        entry_point: may be left out where there is only one, or one called `forward`.
        Raises InputError FER-INP-004 (names), FER-INP-005 (shapes), FER-INP-006 (dtypes), UsageError FER-USE-005 after
        `close`.
        """
        fitted = self.fit(inputs, entry_point)
        with self._turn:
            self._require_open()
            outputs = self.engine.run(fitted.program, fitted.arrays)
        signature = self.entry_points[fitted.entry_point]
        cut = (_cut(spec, out, fitted.lengths) for spec, out in zip(signature.outputs, outputs, strict=True))
        return {spec.name: out for spec, out in zip(signature.outputs, cut, strict=True)}

    def fit(self, inputs: Mapping[str, Any], entry_point: str | None = None) -> Fitted:
        """Inputs as the engine takes them: the artefact's dtypes, padded to a bucket. Raises as `run` does."""
        if entry_point is None:
            entry_point = next(iter(self.entry_points)) if len(self.entry_points) == 1 else "forward"
        if entry_point not in self.entry_points:
            known = ", ".join(self.entry_points)
            raise InputError("FER-INP-004", f"There is no entry point {entry_point!r}; the bundle has: {known}.")
        signature = self.entry_points[entry_point]
        if set(inputs) != {spec.name for spec in signature.inputs}:
            names = [spec.name for spec in signature.inputs]
            raise InputError("FER-INP-004", f"Inputs {sorted(inputs)} were given; {entry_point!r} takes {names}.")
        arrays = {spec.name: _fit_dtype(spec, np.asarray(inputs[spec.name])) for spec in signature.inputs}
        lengths = _bind_lengths(signature, arrays)
        program = entry_point
        if signature.buckets:
            length = next(iter(lengths.values()))
            bucket = next(b for b in signature.buckets if b >= length)
            arrays = {spec.name: _pad(spec, arrays[spec.name], bucket, signature) for spec in signature.inputs}
            program = bucket_name(entry_point, bucket)
        return Fitted(entry_point, program, arrays, lengths)

    def profile(self, inputs: Mapping[str, Any], entry_point: str | None = None, runs: int = 1) -> Profile:
        """Ops of the middle one of some runs, with their times.

        Raises as `run` does, and TargetError FER-TGT-005 where the engine cannot tell.
        """
        from ferrule.runtime.profile import middle_run

        fitted = self.fit(inputs, entry_point)
        with self._turn:
            self._require_open()
            return middle_run(self.engine.profile(fitted.program, fitted.arrays, runs))

    def reset(self) -> None:
        """Forget what the artefact remembers: the next run is as the first one after opening."""
        with self._turn:
            self._require_open()
            self.engine.reset()

    def close(self) -> None:
        """Release the engine, and the files of an archive, after a run that is at work. Twice does no harm."""
        with self._turn:
            if not self._closed:
                self._closed = True
                self.engine.close()
                self._files = None

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError("FER-USE-005", "The session is closed.", "Open the bundle again.")

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fit_dtype(spec: TensorSpec, array: NDArray[Any]) -> NDArray[Any]:
    """Same kind of number, another width: integers are converted when they fit, floats are rounded."""
    wanted = np.dtype(spec.dtype)
    if array.ndim == 0 and spec.shape == (1,):  # Core ML has no scalars at its boundary
        array = array.reshape(1)
    if array.dtype == wanted:
        return np.asarray(array, order="C")
    if array.dtype.kind != wanted.kind:
        raise InputError("FER-INP-006", f"Input {spec.name!r} is {array.dtype}; {wanted} is needed.")
    if wanted.kind in "iu" and array.size:
        bounds = np.iinfo(wanted)
        if array.min() < bounds.min or array.max() > bounds.max:
            raise InputError("FER-INP-006", f"Input {spec.name!r} holds values that {wanted} cannot.")
    return np.asarray(array, dtype=wanted, order="C")


def _bind_lengths(signature: Signature, arrays: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Length of each dynamic axis, checked for agreement and range."""
    lengths: dict[str, int] = {}
    for spec in signature.inputs:
        shape = arrays[spec.name].shape
        fits = len(shape) == len(spec.shape) and all(
            lengths.setdefault(want, have) == have if isinstance(want, str) else want == have
            for want, have in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            known = {k: v for k, v in lengths.items() if k in signature.dims}
            raise InputError(
                "FER-INP-005",
                f"Input {spec.name!r} has shape {list(shape)}; {list(spec.shape)} is needed"
                f"{f' with {known}' if known else ''}.",
            )
    for name, length in lengths.items():
        dim = signature.dims[name]
        top = max(signature.buckets, default=dim.max)
        if not dim.min <= length <= top:
            raise InputError("FER-INP-005", f"Axis {name!r} has length {length}; {dim.min} to {top} are allowed.")
    return lengths


def _pad(spec: TensorSpec, array: NDArray[Any], bucket: int, signature: Signature) -> NDArray[Any]:
    widths = [(0, bucket - n if isinstance(want, str) else 0) for want, n in zip(spec.shape, array.shape, strict=True)]
    if not any(after for _, after in widths):
        return array
    if spec.name not in signature.padding:
        raise InputError(
            "FER-INP-005",
            f"Input {spec.name!r} has shape {list(array.shape)} and may not be padded; lengths that fit exactly: "
            f"{list(signature.buckets)}.",
        )
    return np.pad(array, widths, constant_values=signature.padding[spec.name])


def _cut(spec: TensorSpec, array: NDArray[Any], lengths: Mapping[str, int]) -> NDArray[Any]:
    """Drop what padding added to an output."""
    index = tuple(slice(0, lengths[n]) if isinstance(n, str) and n in lengths else slice(None) for n in spec.shape)
    return array[index]
