"""How each package runs the files that were prepared: opened once, then called with inputs that are bound before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ferrule.runtime.bench.models.case import ModelCase
from ferrule.runtime.bench.models.prepare import PROGRAM

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Call", "Runner", "open_runner"]

Call = Callable[[], "Sequence[NDArray[Any]]"]
"""Runs the model once."""


class Runner(Protocol):
    """An opened file. is_static: whether inputs must have a length of the case, to which they are padded."""

    is_static: bool

    def bind(self, inputs: Mapping[str, NDArray[Any]], length: int) -> Call: ...


def open_runner(case: ModelCase, way: str, folder: Path, threads: int) -> Runner:
    """What runs a way's folder."""
    if way == "torch":
        return _Torch(case, threads)
    if way == "openvino":
        return _OpenVino(folder / "model.xml", threads)
    return _Engine(folder, threads)


class _Engine:
    """A runtime that Ferrule has an engine for; a folder for each length where shapes are static."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.folder, self.threads = folder, threads
        self.is_static = not (folder / PROGRAM).is_file()
        self._opened: dict[int, Any] = {}
        if not self.is_static:
            self._open(folder, 0)

    def _open(self, folder: Path, length: int) -> Any:
        from ferrule.program import Program
        from ferrule.runtime.session import open_program

        if length not in self._opened:
            program = Program.from_json(json.loads((folder / PROGRAM).read_text()))
            path = folder / program.main
            self._opened[length] = open_program(path, program.target, program.entry_points, self.threads)
        return self._opened[length]

    def bind(self, inputs: Mapping[str, NDArray[Any]], length: int) -> Call:
        session = self._open(self.folder / str(length), length) if self.is_static else self._opened[0]
        fitted = session.fit(inputs)
        return lambda: session.engine.run(fitted.program, fitted.arrays)


class _Torch:
    """The module itself."""

    is_static = False

    def __init__(self, case: ModelCase, threads: int) -> None:
        import torch

        from ferrule.sources import load_model

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.module = load_model(case.spec).entry_points["forward"].module

    def bind(self, inputs: Mapping[str, NDArray[Any]], length: int) -> Call:
        import torch

        tensors = [torch.from_numpy(array) for array in inputs.values()]
        return lambda: [self.module(*tensors).numpy()]


class _OpenVino:
    """Compiled for each length: static shapes are its fastest; float32 where nothing is quantized."""

    is_static = True

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        self.core, self.path = openvino.Core(), path
        self.options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        self._requests: dict[int, Any] = {}

    def bind(self, inputs: Mapping[str, NDArray[Any]], length: int) -> Call:
        if length not in self._requests:
            model = self.core.read_model(self.path)
            model.reshape({name: list(array.shape) for name, array in inputs.items()})
            self._requests[length] = self.core.compile_model(model, "CPU", self.options).create_infer_request()
        request, given = self._requests[length], dict(inputs)
        return lambda: list(request.infer(given, share_inputs=True, share_outputs=True).values())
