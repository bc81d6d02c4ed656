"""Fault finding against real faults: overflow, damaged weights, ops that are lowered wrongly."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from ferrule.bundle import check
from ferrule.converters import find_target
from ferrule.converters.locate import Divergence, examine, examine_destination, locate
from ferrule.device_profiles import load
from ferrule.errors import InputError, ParityError, SourceError
from ferrule.flow import pack
from ferrule.model import Dim, EntryPoint, Model, as_model, capture
from ferrule.prepare import compress
from ferrule.program import Program

DEVICES = {
    "coreml": "iphone-15-pro",
    "executorch": "pixel-9",
    "executorch-coreml": "iphone-15-pro",
    "litert": "pixel-9",
    "native": "pixel-9",
    "onnx": "pixel-9",
}
OWN = [target for target in DEVICES if target not in ("executorch", "native")]  # whose values show without probes


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(24, 40)
        self.norm = nn.LayerNorm(40)
        self.middle = nn.Linear(40, 48)
        self.last = nn.Linear(48, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        h = self.norm(h)
        h = self.middle(h)  # middle
        h = nn.functional.gelu(h, approximate="tanh")  # gelu
        h = h * 0.5
        return self.last(h).softmax(-1)


class Overflowing(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(24, 16)
        self.last = nn.Linear(16, 3)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x) * 250.0
        h = h * self.factor  # overflow
        h = torch.tanh(h / self.factor / 250.0)
        return self.last(h)


def line(module: type[nn.Module], mark: str) -> str:
    """`tests/test_locate.py:LINE` of the line with the comment."""
    lines, start = inspect.getsourcelines(module)
    return f"tests/test_locate.py:{start + next(i for i, text in enumerate(lines) if f'# {mark}' in text)}"


def example() -> Tensor:
    return torch.randn(4, 24, generator=torch.Generator().manual_seed(1))


def build(module: nn.Module, target: str, folder: Path, recipe: str = "fp") -> tuple[Model, Program]:
    folder.mkdir(exist_ok=True)
    model = compress(as_model(module.eval(), {"x": example()}), recipe)
    program: Program = find_target(target).lower()(capture(model), load(DEVICES[target]), folder)
    return model, replace(program, root=folder)


def find(program: Program, model: Model) -> Divergence | None:
    return locate(program, model, device=DEVICES[program.target])


def damage(program: Program, weight: Tensor) -> None:
    """Overwrite half of a weight in the file, wherever it lies, in whichever type and order it is kept there."""
    assert program.root is not None
    files = [p for p in program.root.rglob("*") if p.is_file()]
    array = weight.detach().numpy()
    forms = [np.ascontiguousarray(a).astype(t) for a in (array, array.T) for t in {array.dtype, np.dtype(np.float16)}]
    for file in files:
        data = file.read_bytes()
        for form in forms:
            raw = form.tobytes()
            at = data.find(raw)
            if at >= 0:
                turned = (-np.roll(form.ravel(), 7)).tobytes()
                half = len(raw) // 2
                file.write_bytes(data[:at] + turned[:half] + raw[half:][: len(raw)] + data[at + len(raw) :])
                return
    raise AssertionError("the weight is not in the file")


@pytest.mark.parametrize("target", OWN)
def test_healthy_artefacts_agree_at_every_node(target: str, tmp_path: Path) -> None:
    model, program = build(Net(), target, tmp_path)
    found = examine(program, model, device=DEVICES[target])
    assert found.divergence is None and not found.notes
    ops = {row.op for row in found.rows}
    assert {"aten.linear", "aten.layer_norm", "aten.softmax.int"} <= ops
    assert all(row.source.startswith("tests/test_locate.py:") for row in found.rows)
    assert all(row.error < 3e-3 for row in found.rows)


@pytest.mark.parametrize(
    ("target", "recipe"),
    [*((t, "fp") for t in DEVICES if t != "native"), ("coreml", "w8"), ("litert", "w8"), ("onnx", "w8")],
)
def test_damaged_weight_is_found(target: str, recipe: str, tmp_path: Path) -> None:
    model, program = build(Net(), target, tmp_path, recipe)
    layer: Any = model.entry_points["forward"].module.get_submodule("middle")
    damage(program, layer.codes if recipe == "w8" else layer.weight)
    found = find(program, model)
    assert found is not None
    assert found.source == line(Net, "middle") and found.layer == "middle"
    assert found.found.op in ("aten.linear", "ferrule.coded_linear")
    assert "layer_norm" in found.after or "layer_norm" in found.between


@pytest.mark.parametrize("target", ["coreml", "executorch-coreml"])
def test_overflow_of_float16_is_named(target: str, tmp_path: Path) -> None:
    model, program = build(Overflowing(3e4), target, tmp_path)
    found = find(program, model)
    assert found is not None and found.source == line(Overflowing, "overflow")
    assert found.guess.startswith("Overflow: eager values reach")
    assert found.found.held > 0


def test_number_beyond_float16_is_named(tmp_path: Path) -> None:
    model, program = build(Overflowing(1e5), "coreml", tmp_path)
    found = find(program, model)
    assert found is not None and found.source == line(Overflowing, "overflow")
    assert "number 100000 is beyond float16" in found.guess


def test_mask_of_large_numbers_is_no_fault(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mask = (x[:1] > 0).float()
            return (x + (1.0 - mask) * -3.4e38).softmax(-1)

    model, program = build(Masked(), "coreml", tmp_path)
    found = examine(program, model, device=DEVICES["coreml"])
    assert found.divergence is None
    assert any(row.held for row in found.rows)


def test_op_that_coremltools_gets_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY

    def wrong(context: Any, node: Any) -> None:
        context.add(mb.relu(x=_get_inputs(context, node)[0], name=node.name))

    monkeypatch.setitem(_TORCH_OPS_REGISTRY.name_to_func_mapping, "gelu", wrong)
    model, program = build(Net(), "coreml", tmp_path)
    found = find(program, model)
    assert found is not None and found.source == line(Net, "gelu") and found.found.op == "aten.gelu"


def test_op_that_a_rewrite_gets_wrong_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ferrule.converters import executorch_rewrite
    from ferrule.converters.executorch_edits import call, calls, swap

    def wrong(program: Any) -> None:
        for node in calls(program, torch.ops.aten.gelu.default):
            swap(node, call(node, torch.ops.aten.sigmoid.default, node.args[0]))

    monkeypatch.setattr(executorch_rewrite, "_open_tanh_gelu", wrong)
    model, program = build(Net(), "executorch", tmp_path)
    found = find(program, model)
    assert found is not None and found.source == line(Net, "gelu") and found.found.op == "aten.gelu"


def test_op_changed_in_the_file_is_named(tmp_path: Path) -> None:
    import onnx

    model, program = build(Net(), "onnx", tmp_path)
    assert program.root is not None
    file = program.root / program.main
    graph = onnx.load(file)
    (node,) = [n for n in graph.graph.node if n.op_type == "Gelu"]
    del node.attribute[:]
    node.op_type = "Relu"
    onnx.save(graph, file)
    found = find(program, model)
    assert found is not None and found.source == line(Net, "gelu")


@pytest.mark.parametrize("target", OWN)
def test_dynamic_lengths_are_padded_alike(target: str, tmp_path: Path) -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(20, 8)
            self.out = nn.Linear(8, 8)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            weights = mask / mask.sum(1, keepdim=True)
            return (self.out(self.table(ids)) * weights[:, :, None]).sum(1)

    length = Dim("tokens", 2, 64)
    inputs = {"ids": torch.arange(5)[None], "mask": torch.ones(1, 5)}
    entry = EntryPoint(Tokens().eval(), inputs, {"ids": {1: length}, "mask": {1: length}}, {"ids": 0, "mask": 0})
    model = Model({"forward": entry}, source="test")
    program: Program = find_target(target).lower()(capture(model), load(DEVICES[target]), tmp_path)
    found = examine(replace(program, root=tmp_path), model, device=DEVICES[target])
    assert found.divergence is None
    assert any(row.op == "aten.embedding" for row in found.rows)


@pytest.fixture(scope="module")
def user_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("user") / "net.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n"
        "        torch.manual_seed(0)\n        self.a = nn.Linear(24, 16)\n\n    def forward(self, x):\n"
        "        return torch.tanh(self.a(x) * 3e4) / 7.0\n\ndef make():\n"
        "    return Net().eval(), (torch.linspace(-1, 1, 48).reshape(2, 24),)\n"
    )
    return file


def test_bundle_is_examined_with_the_model_of_its_manifest(
    user_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ferrule.sources import load_model

    model = load_model(f"{user_file}:make")
    program = find_target("onnx").lower()(capture(model), load("pixel-9"), _new(tmp_path / "program"))
    program = replace(program, root=tmp_path / "program")
    damage(program, model.entry_points["forward"].module.get_submodule("a").weight)  # type: ignore[arg-type]
    bundle = pack(program, model, tmp_path / "net.ferrule", device="pixel-9")
    assert not check(bundle.root).ok
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="--model SPEC"):
        locate(bundle)
    monkeypatch.chdir(user_file.parent)
    found = locate(bundle.root)
    assert found is not None and found.source.endswith("/net.py:11") and found.node == "linear"
    assert locate(bundle, model.entry_points["forward"].module) == found
    with pytest.raises(InputError, match="no proof input 7"):
        locate(bundle, index=7)
    with pytest.raises(ParityError, match="FER-PAR-005"):
        locate(bundle, Overflowing(2.0))


def test_command_names_op_line_and_cause(user_file: Path, tmp_path: Path) -> None:
    from ferrule.cli.check import command

    arguments = ["--locate", "--model", f"{user_file}:make", "--device", "iphone-15-pro:coreml"]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.exception is None and result.return_value == 0 or "net.py:11" in result.output
    made = CliRunner().invoke(command, [*arguments, "--json"], standalone_mode=False)
    told = json.loads(made.output)
    assert told["target"] == "coreml" and {row["node"] for row in told["compared"]} >= {"linear", "mul", "tanh"}


def test_destination_is_examined_without_a_bundle(user_file: Path) -> None:
    found = examine_destination(f"{user_file}:make", "pixel-9:onnx", "w8a8")
    assert found.divergence is None and any(row.op == "ferrule.coded_linear" for row in found.rows)


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "target"),
    [("w8a8", "onnx"), ("w8a8", "litert"), ("w4g32", "coreml"), ("fp", "executorch-coreml"), ("w8a8", "executorch")],
)
def test_healthy_minilm_has_no_fault(recipe: str, target: str) -> None:
    found = examine_destination("sample:minilm", f"{DEVICES[target]}:{target}", recipe)
    assert found.divergence is None, found.divergence
    assert len(found.rows) >= 8
