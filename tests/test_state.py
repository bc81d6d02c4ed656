"""State: what a model remembers is carried by the artefact, or the build fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ferrule.converters import find_target
from ferrule.device_profiles import load
from ferrule.errors import LoweringError, ParityError
from ferrule.graph_writes import remembered_buffers, written_buffers
from ferrule.model import EntryPoint, Model, as_model, capture
from ferrule.prepare import prepare
from ferrule.program import Parity, Program
from ferrule.proof import load_proof, make_proof, prove, save_proof, with_answers
from ferrule.runtime.session import open_program
from ferrule.state import STEPS

DEVICES = {"executorch": "pixel-9", "coreml": "iphone-15-pro", "litert": "pixel-9", "onnx": "pixel-9"}


class Average(nn.Module):
    """An exponential moving average of a projection."""

    mean: Tensor

    def __init__(self, keep: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Linear(6, 4)
        self.register_buffer("mean", torch.zeros(1, 4))
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        mean = 0.75 * self.mean + 0.25 * self.project(x)
        if self.keep:
            self.mean.copy_(mean)
        return torch.tanh(mean) + 0.1 * x[:, :4]


class Cache(nn.Module):
    """One step of attention over keys and values written at a position that moves."""

    keys: Tensor
    values: Tensor
    position: Tensor

    def __init__(self, slots: int = 12, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv = nn.Linear(width, 3 * width)
        self.register_buffer("keys", torch.zeros(1, slots, width))
        self.register_buffer("values", torch.zeros(1, slots, width))
        self.register_buffer("position", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("places", torch.arange(slots))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        self.keys.index_copy_(1, self.position, key)
        self.values.index_copy_(1, self.position, value)
        scores = query @ self.keys.transpose(1, 2) / 3.0
        weights = scores.masked_fill(self.places > self.position, -1e4).softmax(-1)
        self.position.add_(1)
        return weights @ self.values


class Counter(nn.Module):
    """Counts its runs; nothing but the counter changes from one to the next."""

    count: Tensor

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("count", torch.full((1,), start))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return x + self.count


class Idle(nn.Module):
    """Writes a buffer that no output depends on."""

    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1)
        return x * 2.0


def rows(shape: tuple[int, ...], count: int) -> tuple[Mapping[str, Tensor], ...]:
    generator = torch.Generator().manual_seed(3)
    return tuple({"x": torch.randn(shape, generator=generator)} for _ in range(count))


def make(module: nn.Module, shape: tuple[int, ...], count: int) -> Model:
    inputs = rows(shape, count)
    return Model(
        {"forward": EntryPoint(module.eval(), inputs[0])}, source="test", proof_inputs=inputs, proof_source="random"
    )


def lower(model: Model, target: str, folder: Path) -> Program:
    folder.mkdir(exist_ok=True)
    program: Program = find_target(target).lower()(capture(model), load(DEVICES[target]), folder)
    return replace(program, root=folder)


def prove_on(program: Program, model: Model, folder: Path) -> Parity:
    proof = load_proof(prepare(model, folder / "prepared").root / "proof.safetensors")
    assert program.root is not None
    with open_program(program.root / program.main, program.target, program.entry_points) as session:
        first = prove(session, proof)
        assert prove(session, proof) == first  # a second proof begins afresh
    return first


@pytest.mark.parametrize(
    ("module", "shape", "names"),
    [
        (Average(), (1, 6), ["mean"]),
        (Cache(), (1, 1, 8), ["keys", "position", "values"]),
        (Counter(), (1, 3), ["count"]),
    ],
)
def test_executorch_carries_state(module: nn.Module, shape: tuple[int, ...], names: list[str], tmp_path: Path) -> None:
    model = make(module, shape, 10)
    graph = capture(model)["forward"].program
    assert written_buffers(graph) == remembered_buffers(graph) == names
    parity = prove_on(lower(model, "executorch", tmp_path / "program"), model, tmp_path)
    assert parity.steps == 10
    assert parity.cosine > 0.9999
    assert parity.control is not None and parity.control < 0.995


def test_coreml_carries_a_float_state(tmp_path: Path) -> None:
    model = make(Average(), (1, 6), 10)
    parity = prove_on(lower(model, "coreml", tmp_path / "program"), model, tmp_path)
    assert parity.steps == 10 and parity.cosine > 0.999


def test_one_example_is_repeated(tmp_path: Path) -> None:
    model = make(Counter(), (1, 3), 1)
    parity = prove_on(lower(model, "executorch", tmp_path / "program"), model, tmp_path)
    assert parity.steps == parity.inputs == STEPS


@pytest.mark.parametrize("target", ["executorch", "coreml"])
def test_artefact_that_drops_its_history_fails(target: str, tmp_path: Path) -> None:
    """An average's outputs all point one way: cosine alone would let this pass."""
    program = lower(make(Average(keep=False), (1, 6), 10), target, tmp_path / "program")
    with pytest.raises(ParityError, match="FER-PAR-006.*'mean'"):
        prove_on(program, make(Average(), (1, 6), 10), tmp_path)


def test_dropped_counter_fails_though_its_cosine_is_one(tmp_path: Path) -> None:
    class Frozen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1.0

    example = ({"x": torch.ones(1, 3)},) * 9
    model = replace(make(Counter(), (1, 3), 1), proof_inputs=example)
    program = lower(replace(make(Frozen(), (1, 3), 1), proof_inputs=example), "executorch", tmp_path / "program")
    with pytest.raises(ParityError, match="FER-PAR-006.*'count'"):
        prove_on(program, model, tmp_path)


def test_each_buffer_is_proven_by_itself(tmp_path: Path) -> None:
    class Two(nn.Module):
        """The second buffer is small beside the first."""

        def __init__(self, second: bool) -> None:
            super().__init__()
            self.register_buffer("first", torch.zeros(1, 3))
            self.register_buffer("second", torch.zeros(1, 3))
            self.keep = second

        def forward(self, x: Tensor) -> Tensor:
            self.first.add_(x.abs())
            second = self.second + 0.05 * x.abs().flip(1)
            if self.keep:
                self.second.copy_(second)
            return self.first + second

    program = lower(make(Two(False), (1, 3), 10), "executorch", tmp_path / "program")
    with pytest.raises(ParityError, match="FER-PAR-006.*'second'"):
        prove_on(program, make(Two(True), (1, 3), 10), tmp_path)


def test_inputs_that_do_not_exercise_state_are_refused(tmp_path: Path) -> None:
    model = replace(make(Average(), (1, 6), 1), proof_inputs=({"x": torch.zeros(1, 6)},) * 8)
    with torch.no_grad():
        model.entry_points["forward"].module.get_submodule("project").bias.zero_()  # type: ignore[union-attr]
    with pytest.raises(ParityError, match="FER-PAR-004.*'mean'"):
        prepare(model, tmp_path)


def test_buffer_that_nothing_reads_needs_no_proof(tmp_path: Path) -> None:
    model = make(Idle(), (1, 3), 2)
    graph = capture(model)["forward"].program
    assert written_buffers(graph) == ["seen"] and remembered_buffers(graph) == []
    proof = load_proof(prepare(model, tmp_path).root / "proof.safetensors")
    assert not proof.controls


def test_model_without_state_has_no_controls() -> None:
    proof = make_proof(with_answers(as_model(nn.Linear(3, 2), {"input": torch.ones(1, 3)})), ["output"])
    assert not proof.controls and len(proof.inputs) == 1


def test_controls_survive_the_file_and_the_head(tmp_path: Path) -> None:
    proof = make_proof(with_answers(make(Average(), (1, 6), 12)), ["output"])
    save_proof(proof, tmp_path / "proof.safetensors")
    read = load_proof(tmp_path / "proof.safetensors")
    assert set(read.controls) == {"mean"} and len(read.controls["mean"]) == 12
    assert len(read.head().controls["mean"]) == len(read.head().inputs) == STEPS


def writes() -> dict[str, Callable[[Any, Tensor], Any]]:
    def copy(self: Any, x: Tensor) -> None:
        self.cache.copy_(x + self.cache)

    def view(self: Any, x: Tensor) -> None:
        self.cache.view(-1)[2] = x.sum()

    def index_put(self: Any, x: Tensor) -> None:
        self.cache.index_put_((torch.tensor([0]), torch.tensor([1])), x.sum())

    def slices(self: Any, x: Tensor) -> None:
        self.cache[:, 1:2] = x[:, :1]

    def position(self: Any, x: Tensor) -> None:
        self.cache[:, self.places] = x[:, :1]

    def assignment(self: Any, x: Tensor) -> None:
        self.cache = self.cache + x

    return {f.__name__: f for f in (copy, view, index_put, slices, position, assignment)}


@pytest.mark.parametrize("write", list(writes()))
@pytest.mark.parametrize("target", ["litert", "onnx"])
def test_targets_without_state_refuse_every_way_to_write(target: str, write: str, tmp_path: Path) -> None:
    class Writer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("cache", torch.zeros(1, 4))
            self.register_buffer("places", torch.tensor([2]))

        def forward(self, x: Tensor) -> Tensor:
            writes()[write](self, x)
            return x * self.cache.sum()

    with pytest.raises(LoweringError, match="FER-LOW-004.*cache"):
        lower(make(Writer(), (1, 4), 1), target, tmp_path)
