"""Models from bare modules, weights that no codec can hold, and capture with the user's line named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ferrule
from ferrule.converters.decompositions import functionalize
from ferrule.errors import CaptureError, FerruleError, InputError, ModelError
from ferrule.flow import compress
from ferrule.graph_writes import _may_write_inputs, written_inputs
from ferrule.model import Dim, EntryPoint, Model, as_model, capture, check_weights
from ferrule.policy import Forward
from ferrule.proof import answer
from ferrule.worker import read_graphs, write_graphs

HERE = Path(__file__).name


class Two(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left - right


class Many(nn.Module):
    def forward(self, first: Tensor, *rest: Tensor) -> Tensor:
        return first + sum(rest)


class Nested(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, dict[str, Tensor]]]:
        return x, (x + 1, {"the key": x + 2})


def module_of(model: Model) -> nn.Module:
    return model.entry_points["forward"].module


def refusal(model: Any, *arguments: Any) -> FerruleError:
    with pytest.raises(FerruleError) as caught:
        as_model(model, *arguments)
    return caught.value


def test_inputs_are_named_after_the_parameters_of_forward() -> None:
    a, b = torch.zeros(1, 2), torch.ones(1, 2)
    for given in ((a, b), [a, b], {"left": a, "right": b}, {"right": b, "left": a}):
        model = as_model(Two(), given)
        inputs = model.entry_points["forward"].inputs
        assert list(inputs) == ["left", "right"] and inputs["left"] is a
    assert model.source == "module:Two" and as_model(model) is model
    assert list(as_model(nn.ReLU(), a).entry_points["forward"].inputs) == ["input"]


def test_inputs_beyond_the_named_parameters() -> None:
    x = torch.zeros(1)
    assert list(as_model(Many(), (x, x, x)).entry_points["forward"].inputs) == ["first", "input_1", "input_2"]
    error = refusal(Two(), (x, x, x))
    assert error.code == "FER-INP-001" and "3 example inputs" in error.message and "['left', 'right']" in error.message


def test_inputs_that_do_not_fit_are_refused() -> None:
    x = torch.zeros(1)
    error = refusal(Two(), {"left": x, "wrong": x})
    assert error.code == "FER-INP-001" and "['wrong']" in error.message and "['left', 'right']" in error.message
    error = refusal(Two(), (x, np.zeros(1)))
    assert error.code == "FER-INP-002" and "'right' is a ndarray" in error.message
    error = refusal(Two())
    assert error.code == "FER-INP-001" and "example_inputs=" in error.hint


def test_what_is_no_module_is_refused() -> None:
    program = torch.export.export(nn.ReLU(), (torch.zeros(1),))
    for given in (program, program.module(), "minilm", lambda x: x):
        error = refusal(given, (torch.zeros(1),))
        assert error.code == "FER-INP-001" and type(given).__name__ in error.message


def test_a_module_in_training_mode_is_left_in_it() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    model = as_model(module, (torch.ones(1, 4),))
    compress(model, "w8")
    assert module.training and module[1].training
    assert not module_of(model).training and not module_of(model).get_submodule("1").training
    assert module_of(model).get_parameter("0.weight") is module[0].weight
    frozen = nn.Linear(4, 4).eval()
    assert module_of(as_model(frozen, (torch.ones(1, 4),))) is frozen


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_named_before_the_model_is_run(value: float, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        module[1].weight[0, 1:3] = value
    for call in (
        lambda: check_weights(as_model(module, (torch.ones(1, 4),))),
        lambda: compress(module, "w8", example_inputs=(torch.ones(1, 4),)),
    ):
        with pytest.raises(ModelError, match="'1.weight' holds 2 NaN or infinite values out of 8") as caught:
            call()
        assert caught.value.code == "FER-MOD-001"
    (result,) = ferrule.deploy(module, (torch.ones(1, 4),), devices=["raspberry-pi-5:onnx"], out=tmp_path / "out")
    assert (result.status, result.code) == ("failed", "FER-MOD-001") and "'1.weight'" in str(result.reason)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_named(dtype: torch.dtype) -> None:
    with pytest.raises(ModelError, match=f"'weight' is {str(dtype)[6:]}; float32") as caught:
        compress(nn.Linear(4, 4).to(dtype), "w8", example_inputs=(torch.ones(1, 4, dtype=dtype),))
    assert caught.value.code == "FER-MOD-003" and ".float()" in caught.value.hint


def test_an_infinite_buffer_is_no_weight() -> None:
    class Masked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(super().forward(x) + self.mask, -1)

    assert compress(Masked(), example_inputs=(torch.ones(1, 2),)).proof_outputs[0][0].isfinite().all()


@pytest.mark.parametrize(
    "inputs", [(torch.ones(1, 5),), (torch.ones(1, 4, dtype=torch.int64),), (torch.ones(1, 4), torch.ones(1))]
)
def test_example_inputs_of_the_wrong_shape_dtype_or_number(inputs: tuple[Tensor, ...], tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(InputError) as caught:
        compress(module, "w8", example_inputs=inputs)
    assert caught.value.code == ("FER-INP-001" if len(inputs) == 2 else "FER-INP-003")
    if len(inputs) == 1:
        assert f"{list(inputs[0].shape)} {str(inputs[0].dtype)[6:]}" in caught.value.message
    (result,) = ferrule.deploy(module, inputs, devices=["pixel-9:litert"], out=tmp_path)
    assert (result.status, result.code) == ("failed", caught.value.code)


def test_outputs_that_are_not_tensors_or_are_nan_are_refused() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return x, None

    with pytest.raises(ModelError, match="returns a NoneType") as caught:
        answer(Odd(), [{"x": torch.ones(1)}])
    assert caught.value.code == "FER-MOD-004"
    with pytest.raises(ModelError, match="NaN to proof input 1") as caught:
        answer(nn.ReLU(), [{"x": torch.ones(1)}, {"x": torch.ones(1) * torch.nan}])
    assert caught.value.code == "FER-MOD-002"


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # the construct
            return x
        return -x


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n = int(x.sum().item())
        return torch.zeros(n)


class LeavesTorch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.tanh(x.detach().numpy()))


class Deep(nn.Module):
    """The fault stands in a child, called through a decorator of the standard library's making."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Branches()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.child(x)
        return y


@pytest.mark.parametrize(
    ("module", "construct"),
    [
        (Branches(), "if x.sum() > 0:"),
        (Counts(), "n = int(x.sum().item())"),
        (LeavesTorch(), "return torch.from_numpy(np.tanh(x.detach().numpy()))"),
        (Deep(), "if x.sum() > 0:"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_captured_is_told_with_the_users_line(module: nn.Module, construct: str) -> None:
    with pytest.raises(CaptureError) as caught:
        capture(as_model(module, (torch.ones(2, 3),)))
    error = caught.value
    line = next(n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if construct in text)
    assert error.code == "FER-CAP-001" and f"{HERE}:{line}, `{construct}" in error.message
    assert "torch.cond" in error.hint


def test_a_dynamic_axis_that_the_model_fixes_is_told() -> None:
    model = as_model(nn.Linear(4, 4), (torch.ones(2, 4),), {"input": {1: Dim("width", 2, 9)}})
    with pytest.raises(CaptureError) as caught:
        capture(model)
    assert "You marked width as dynamic but your code specialized it to be a constant (4)" in caught.value.message


def test_capture_reads_the_signature_off_the_graph() -> None:
    class Named(nn.Module):
        def forward(self, ids: Tensor, x: Tensor) -> dict[str, Any]:
            return {"sum": x.sum(1), "pair": (ids + 1, x[:, :1])}

    n = Dim("tokens", 2, 32)
    entry = EntryPoint(
        Named(), {"ids": torch.ones(1, 5, dtype=torch.int64), "x": torch.ones(1, 5, 3)}, {"ids": {1: n}, "x": {1: n}}
    )
    signature = capture(Model({"forward": entry}, "test"))["forward"].signature
    assert [(s.name, s.dtype, s.shape) for s in signature.inputs] == [
        ("ids", "int64", (1, "tokens")),
        ("x", "float32", (1, "tokens", 3)),
    ]
    assert [(s.name, s.dtype, s.shape) for s in signature.outputs] == [
        ("sum", "float32", (1, 3)),
        ("pair_0", "int64", (1, "tokens")),
        ("pair_1", "float32", (1, 1, 3)),
    ]
    assert dict(signature.dims) == {"tokens": n}
    assert type(signature).from_json(signature.to_json()) == signature


@pytest.mark.parametrize(
    ("module", "names"),
    [(nn.ReLU(), ["output"]), (Nested(), ["output_0", "output_1_0", "output_1_1_the_key"])],
)
def test_outputs_without_names_are_numbered(module: nn.Module, names: list[str]) -> None:
    graph = capture(as_model(module, (torch.ones(2, 1, 4),)))["forward"]
    assert [s.name for s in graph.signature.outputs] == names


@pytest.mark.parametrize(
    "dynamic",
    [
        {"wrong": {0: Dim("n", 1, 9)}},
        {"left": {2: Dim("n", 1, 9)}},
        {"left": {-1: Dim("n", 1, 9)}},
        {"left": {0: Dim("n", 3, 9)}},
        {"left": {0: torch.export.Dim("n")}},
        {"left": {0: 5}},
    ],
)
def test_dynamic_axes_that_belong_to_nothing_are_refused(dynamic: Any) -> None:
    error = refusal(Two(), (torch.ones(2, 2), torch.ones(2, 2)), dynamic)
    assert error.code == "FER-INP-009" and repr(next(iter(dynamic))) in error.message


def test_capture_leaves_the_module_and_its_inputs_alone() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    before = copy.deepcopy(module.state_dict())
    x = torch.ones(3, 8)[:, ::2]
    graph = capture(as_model(module, (x,)))["forward"]
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert torch.allclose(graph.program.module()(x.contiguous()), module(x))


class Overwrites(nn.Module):
    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        n = n + 1
        x[:, 0].mul_(2)
        return x.add_(1) * n


def test_a_model_that_writes_to_its_inputs_becomes_one_that_does_not() -> None:
    x, n = torch.ones(3, 2), torch.ones(2)
    expected = torch.tensor([6.0, 4.0]).expand(3, 2)
    model = as_model(Overwrites().eval(), (x, n), {"x": {0: Dim("rows", 2, 8)}})
    (found,) = answer(module_of(model), [model.entry_points["forward"].inputs])
    graph = capture(model)["forward"]
    assert torch.equal(found[0], expected) and graph.signature.inputs[0].shape == ("rows", 2)
    assert torch.equal(graph.program.module()(x, n), expected) and torch.equal(x, torch.ones(3, 2))


class Writes(nn.Module):
    """Gives its input, or what is made of it, to a function that writes."""

    held: Tensor

    def __init__(self, write: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.write = write
        self.register_buffer("held", torch.zeros(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.write(x, self.held)
        return x + self.held


@pytest.mark.parametrize(
    ("write", "reaches"),
    [
        (lambda x, held: x.add_(1), True),
        (lambda x, held: x.view(3, 2).transpose(0, 1)[0].mul_(2), True),
        (lambda x, held: x.chunk(3, 1)[1].zero_(), True),
        (lambda x, held: x.to(torch.float32).contiguous().add_(1), True),
        (lambda x, held: torch.add(x, 1, out=x), True),
        (lambda x, held: torch._foreach_add_([held, x], 1), True),
        (lambda x, held: held.copy_(x), False),
        (lambda x, held: held.index_copy_(1, torch.tensor([1]), x[:, :1]), False),
        (lambda x, held: x.clone().add_(1), False),
        (lambda x, held: (x * 2).relu_(), False),
    ],
)
def test_writes_that_reach_an_input_are_found(write: Callable[[Tensor, Tensor], Any], reaches: bool) -> None:
    with torch.no_grad():
        program = torch.export.export(Writes(write), (torch.ones(2, 3),))
    functional = functionalize(program).graph_signature
    assert written_inputs(program) == sorted(functional.user_inputs_to_mutate.values()) == (["x"] if reaches else [])
    assert _may_write_inputs(program) == reaches  # where it is not so, nothing is functionalized


class Pair(NamedTuple):
    """What a model may return that torch cannot write down."""

    total: Tensor
    rest: Tensor


def test_named_tuples_are_returned_as_plain_ones(tmp_path: Path) -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> Pair:
            return Pair(x.sum(1), x - 1)

    class Largest(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x.topk(2)

    x = torch.randn(2, 8)
    for module, names in ((Named(), ["total", "rest"]), (Largest(), ["output_0", "output_1"])):
        graphs = capture(as_model(module, (x,)))
        assert [spec.name for spec in graphs["forward"].signature.outputs] == names
        write_graphs(graphs, tmp_path / type(module).__name__)
        again = read_graphs(tmp_path / type(module).__name__)["forward"].program.module()(x)
        assert all(torch.equal(a, b) for a, b in zip(again, module(x), strict=True))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_captured_without_a_warning(kind: Any) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = kind(4, 3, num_layers=2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(x)[0]

    module, x = Recurrent().eval(), torch.randn(1, 5, 4)
    program = capture(as_model(module, (x,)))["forward"].program  # warnings are errors here
    assert torch.allclose(program.module()(x), module(x), atol=1e-6)


def test_complex_numbers_stay_inside() -> None:
    z = torch.ones(2, 2, dtype=torch.complex64)
    with pytest.raises(InputError, match="'left' .* is complex64") as caught:
        capture(as_model(Two(), (z, z)))
    assert caught.value.code == "FER-INP-006"
    with pytest.raises(ModelError, match="torch.complex64 tensor") as refused:
        answer(Two(), [{"left": z, "right": z}])
    assert refused.value.code == "FER-MOD-004"


def test_the_policy_calls_forward_or_else_the_first_entry_point() -> None:
    x = torch.randn(2, 4)
    entries = {name: EntryPoint(nn.Linear(4, 3).eval(), {"x": x}) for name in ("prefill", "decode")}
    model = Model(entries, "test")
    assert model.policy == Forward("prefill") and compress(model, "w8").policy == Forward("prefill")
    both = {**entries, "forward": entries["decode"]}
    assert Model(both, "test").policy == Forward()
    assert Model(both, "test", Forward("decode")).policy == Forward("decode")
    assert set(capture(compress(model, "w8"))) == {"prefill", "decode"}
    for wrong, policy in ((entries, Forward("step")), ({}, Forward())):
        with pytest.raises(
            ModelError, match="FER-MOD-006: The policy calls entry point '(step|forward)'; the model has"
        ):
            Model(wrong, "test", policy)
