"""Core ML packages, alone or inside a .pte: Core ML itself on a Mac, our reference interpreter elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ferrule.converters.coreml.interpreter import run
from ferrule.converters.coreml.mil import MilProgram, load
from ferrule.errors import BundleError
from ferrule.program import Signature, bucket_name
from ferrule.runtime.profile import Profile, refuse_profile

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["open_engine"]


@dataclass(frozen=True)
class _Call:
    """How a program of the artefact is called: package, function, and names there in the signature's order."""

    package: Path
    function: str
    inputs: Mapping[str, str]  # name in the signature -> name in the package
    outputs: Mapping[str, str]
    signature: Signature


class _Runner(Protocol):
    name: str

    def predict(self, call: _Call, inputs: dict[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]: ...

    def reset(self) -> None: ...


def open_engine(path: Path, entry_points: Mapping[str, Signature], threads: int) -> _Engine:
    """Open an .mlpackage, or a .pte of Core ML delegates (its packages go to a temporary folder).

    Core ML chooses its own threads; `threads` is not used. Raises LoweringError FER-MIL-002 and BundleError
    FER-BUN-021 for damaged files.
    """
    if path.suffix != ".pte":
        return _engine(_calls(path, entry_points), None)
    folder = TemporaryDirectory(prefix="ferrule-coreml-")
    try:
        return _engine(_calls_of_pte(path, Path(folder.name), entry_points), folder)
    except BaseException:
        folder.cleanup()
        raise


def _engine(calls: Mapping[str, _Call], folder: TemporaryDirectory[str] | None) -> _Engine:
    programs = {package: load(package) for package in {call.package for call in calls.values()}}
    on_mac = sys.platform == "darwin" and find_spec("coremltools") is not None
    runner: _Runner = _CoreML(programs) if on_mac else _Reference(programs)
    return _Engine(runner.name, runner, calls, programs, folder)


@dataclass
class _Engine:
    name: str
    runner: _Runner
    calls: Mapping[str, _Call]
    programs: Mapping[Path, MilProgram]
    folder: TemporaryDirectory[str] | None

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs in the signature's order and dtypes; inputs take the package's dtypes and ranks."""
        call = self.calls[program]
        made = self.runner.predict(call, self._arrays(call, inputs))
        return [
            np.asarray(made[call.outputs[spec.name]]).astype(np.dtype(spec.dtype)) for spec in call.signature.outputs
        ]

    def _arrays(self, call: _Call, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        takes = {value.name: value.type for value in self.programs[call.package].functions[call.function].inputs}
        arrays = {}
        for name, theirs in call.inputs.items():
            array = np.asarray(inputs[name])
            wanted = {"int32": np.int32, "fp16": np.float16}.get(takes[theirs].dtype, np.float32)
            arrays[theirs] = np.atleast_1d(array) if takes[theirs].shape else array
            arrays[theirs] = arrays[theirs].astype(wanted)
        return arrays

    def profile(self, program: str, inputs: Mapping[str, NDArray[Any]], runs: int) -> list[Profile]:
        """Raises TargetError FER-TGT-005."""
        raise refuse_profile(
            self.name, "Core ML has no such interface, and the reference interpreter's are not its own"
        )

    def trace(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Every value of a run from fresh states, by its name in the package, as the reference interpreter makes it."""
        call = self.calls[program]
        made: dict[str, NDArray[Any]] = {}
        run(self.programs[call.package], self._arrays(call, inputs), call.function, {}, made)
        return made

    def function(self, program: str) -> str:
        """The package's function behind a program."""
        return self.calls[program].function

    def reset(self) -> None:
        """States begin at zero again."""
        self.runner.reset()

    def close(self) -> None:
        """Remove what was unpacked."""
        if self.folder is not None:
            self.folder.cleanup()


@dataclass
class _Reference:
    """The interpreter in numpy; states live as long as the engine."""

    programs: Mapping[Path, MilProgram]
    states: dict[tuple[Path, str], dict[str, NDArray[Any]]] = field(default_factory=dict)
    name: str = "coreml-reference"

    def predict(self, call: _Call, inputs: dict[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        state = self.states.setdefault((call.package, call.function), {})
        return run(self.programs[call.package], inputs, call.function, state)

    def reset(self) -> None:
        self.states.clear()


@dataclass
class _CoreML:
    """Core ML; a function is loaded when it is first called, its state is kept beside it."""

    programs: Mapping[Path, MilProgram]
    models: dict[tuple[Path, str], tuple[Any, Any]] = field(default_factory=dict)
    name: str = "coreml"

    def predict(self, call: _Call, inputs: dict[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        import coremltools as ct

        key = (call.package, call.function)
        if key not in self.models:
            functions = self.programs[call.package].functions
            # A package with the one function `main` may not be asked for a function by name.
            name = None if set(functions) == {"main"} else call.function
            model = ct.models.MLModel(str(call.package), function_name=name)
            state = model.make_state() if functions[call.function].states else None
            self.models[key] = (model, state)
        model, state = self.models[key]
        made: Mapping[str, NDArray[Any]] = model.predict(inputs, state=state)
        return made

    def reset(self) -> None:
        self.models = {k: (m, None if s is None else m.make_state()) for k, (m, s) in self.models.items()}


def _programs(entry_points: Mapping[str, Signature]) -> dict[str, Signature]:
    """Names that `run` takes: the entry point, or one name a bucket."""
    return {
        program: signature
        for name, signature in entry_points.items()
        for program in ([bucket_name(name, n) for n in signature.buckets] or [name])
    }


def _calls(path: Path, entry_points: Mapping[str, Signature]) -> dict[str, _Call]:
    functions = load(path).functions
    return {
        program: _Call(
            path,
            program if program in functions else "main",
            {spec.name: spec.name for spec in signature.inputs},
            {spec.name: spec.name for spec in signature.outputs},
            signature,
        )
        for program, signature in _programs(entry_points).items()
    }


def _calls_of_pte(path: Path, folder: Path, entry_points: Mapping[str, Signature]) -> dict[str, _Call]:
    from ferrule.converters.executorch_coreml import read_methods

    methods = read_methods(path, folder)
    calls = {}
    for program, signature in _programs(entry_points).items():
        if program not in methods:
            raise BundleError("FER-BUN-021", f"{path.name} has no method {program!r}; it has: {', '.join(methods)}.")
        method = methods[program]
        names = zip((spec.name for spec in signature.inputs), method.inputs, strict=True)
        inputs = {ours: theirs for ours, theirs in names if theirs}
        outputs = dict(zip((spec.name for spec in signature.outputs), method.outputs, strict=True))
        calls[program] = _Call(method.package, method.function, inputs, outputs, signature)
    return calls
