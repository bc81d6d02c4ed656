"""Lowering to native programs: modules against eager torch, at several lengths; what is fused; what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.nn import functional

import ferrule
from ferrule.converters import native
from ferrule.device_profiles import load
from ferrule.errors import LoweringError
from ferrule.model import as_model, capture
from ferrule.runtime.engines.native import NativeEngine, open_engine
from ferrule.sources.torchvision_ops import declare_torchvision_ops

TOKENS = ferrule.Dim("tokens", 1, 48)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def open_module(
    module: nn.Module, inputs: Any, folder: Path, dynamic: Any = None, expand: bool = False
) -> NativeEngine:
    graphs = capture(as_model(module.eval(), inputs, dynamic))
    program = native.lower(graphs, load("raspberry-pi-5"), folder, expand)
    return open_engine(folder / program.main, program.entry_points, 1)


def ops(engine: NativeEngine, inputs: Mapping[str, Any]) -> list[str]:
    (profile,) = engine.profile("forward", inputs, 1)
    return [each.op for each in profile.ops if each.op != "reshape"]


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "arithmetic": lambda x: (x + 1) * x - 2 / (x * x + 3) + x.abs().sqrt() + x.exp().clamp(max=2.0) - x.neg() ** 2,
    "unary": lambda x: torch.stack([x.sin(), x.cos(), x.tanh(), x.sigmoid(), x.erf(), x.floor(), x.round()], 1),
    "activations": lambda x: functional.gelu(x) + functional.gelu(x, approximate="tanh") + functional.silu(x),
    "hard_activations": lambda x: functional.relu6(3 * x) + functional.hardswish(x) + functional.hardsigmoid(x.relu()),
    "comparison": lambda x: torch.where((x > 0.5) | (x < -0.5) & (x != 0), x, x * 0.1),
    "mask": lambda x: x.masked_fill(x > 1, float("-inf")).softmax(-1).masked_fill(x > 10, 0.0),
    "reductions": lambda x: (x.mean(1), x.sum((1, 2)), x.amax(-1, keepdim=True), x.amin(1), (x > 2).any(1)),
    "turned": lambda x: [x.permute(2, 0, 1).sum(axes, keep) for axes in (0, (0, 2), 1) for keep in (False, True)],
    "softmax": lambda x: x.softmax(1) + x.softmax(-1),
    "views": lambda x: x.transpose(1, 2).reshape(2, 4, 2, -1).permute(0, 2, 3, 1).flatten(2),
    "slices": lambda x: torch.cat([x[:, :1], x[:, -1:], x[..., 1::2].repeat(1, 1, 2)], 1),
    "splits": lambda x: [part.sum(-1) for part in (*x.chunk(2, -1), *x.split([3, 5], -1), *x.unbind(-1)[:2])],
    "norm": lambda x: functional.normalize(functional.layer_norm(x, (8,)), dim=-1),
    "matmul": lambda x: x @ x.transpose(1, 2) @ x,
    "expand": lambda x: x[:, :, None].expand(-1, -1, 3, -1).reshape(2, -1, 8) + torch.arange(8.0),
    "range": lambda x: x + torch.arange(x.shape[1])[None, :, None] + torch.ones_like(x) + torch.zeros(1, x.shape[1], 8),
    "pad": lambda x: functional.pad(x, (1, 2, 0, 1), value=3.0),
    "index": lambda x: x[:, torch.tensor([0, 0])] + x.index_select(2, torch.tensor([7, 0, 3, 3, 1, 1, 2, 5]))[:, :1],
    "elements": lambda x: x.gather(2, (x > 0).long() + 2) + x.gather(1, (x > 0).long()).sum(-1, keepdim=True),
    "attention": lambda x: functional.scaled_dot_product_attention(
        *(x.view(2, -1, 2, 4).transpose(1, 2),) * 3, is_causal=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_with_torch_at_every_length(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    function = FUNCTIONS[name]
    engine = open_module(Function(function), {"x": torch.randn(2, 7, 8)}, tmp_path, {"x": {1: TOKENS}})
    for length in (7, 2, 31):
        x = torch.randn(2, length, 8)
        wanted = function(x)
        for got, want in zip(
            engine.run("forward", {"x": x.numpy()}),
            wanted if isinstance(wanted, list | tuple) else [wanted],
            strict=True,
        ):
            assert got.shape == tuple(want.shape)
            np.testing.assert_allclose(got, want.numpy(), rtol=2e-4, atol=2e-5)


class Block(nn.Module):
    """A transformer's block with a mask of padding, as models write it."""

    def __init__(self, written_out: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)
        self.written_out = written_out

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (layer(x).view(1, -1, 4, 8).transpose(1, 2) for layer in (self.q, self.k, self.v))
        bias = (1.0 - mask[:, None, None, :].float()) * -1e4
        if self.written_out:
            y = ((q @ k.transpose(2, 3)) / 8**0.5 + bias).softmax(-1) @ v
        else:
            y = functional.scaled_dot_product_attention(q, k, v, bias)
        x = self.norm(x + self.o(y.transpose(1, 2).reshape(1, -1, 32)))
        return x + self.down(functional.gelu(self.up(x)))


@pytest.mark.parametrize("written_out", [True, False])
def test_a_block_becomes_six_ops_and_agrees(written_out: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, mask = Block(written_out).eval(), torch.ones(1, 9, dtype=torch.int64)
    inputs = {"x": torch.randn(1, 9, 32), "mask": mask}
    engine = open_module(module, inputs, tmp_path, {"x": {1: TOKENS}, "mask": {1: TOKENS}})
    arrays = {name: value.numpy() for name, value in inputs.items()}
    found = ops(engine, arrays)
    assert found.count("linear") == 4 and found.count("attention") == 1 and found.count("layer_norm") == 1
    assert not {"softmax", "matmul", "permute", "activate"} & set(found)
    for length, shown in ((9, 9), (17, 5), (2, 1)):
        x, mask = torch.randn(1, length, 32), torch.zeros(1, length, dtype=torch.int64)
        mask[:, :shown] = 1
        with torch.no_grad():
            want = module(x, mask)
        np.testing.assert_allclose(
            engine.run("forward", {"x": x.numpy(), "mask": mask.numpy()})[0], want.numpy(), rtol=1e-4, atol=1e-5
        )


def test_pictures_agree_and_batch_norms_are_folded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6(), nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5),
    ).eval()  # fmt: skip
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)  # type: ignore[union-attr, operator]
            layer.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    x = torch.randn(2, 3, 32, 24)
    engine = open_module(module, {"input": x}, tmp_path)
    with torch.no_grad():
        want = module(x)
    np.testing.assert_allclose(engine.run("forward", {"input": x.numpy()})[0], want.numpy(), rtol=1e-4, atol=1e-5)
    found = ops(engine, {"input": x.numpy()})
    assert found.count("conv") == 3 and "binary" not in found and found.count("permute") <= 1


def test_pictures_stay_with_channels_last_from_end_to_end(tmp_path: Path) -> None:
    """EfficientNet-lite0: convolutions with their batch norms, activations and residuals, and little else."""
    declare_torchvision_ops()
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    module = timm.create_model("efficientnet_lite0", pretrained=False).eval()
    x = torch.randn(1, 3, 64, 64)
    engine = open_module(module, {"x": x}, tmp_path)
    with torch.no_grad():
        want = module(x)
    got = engine.run("forward", {"x": x.numpy()})[0]
    assert functional.cosine_similarity(torch.from_numpy(got), want).item() > 0.99999
    assert sorted(ops(engine, {"x": x.numpy()})) == ["conv"] * 49 + ["linear", "permute", "reduce"]


def test_a_vision_transformer_is_six_ops_a_block(tmp_path: Path) -> None:
    model = vit()
    engine = open_model(model, tmp_path)
    inputs = {name: value.numpy() for name, value in model.proofs()[0].items()}
    found = ops(engine, inputs)
    assert [found.count(op) for op in ("linear", "attention", "layer_norm", "conv")] == [25, 6, 13, 1]
    assert not {"permute", "activate", "softmax", "matmul"} & set(found)
    agree(engine, model, 0.99999)


@pytest.mark.parametrize(("recipe", "least"), [("tome8", 0.99999), ("tome16-w8a8", 0.999)])
def test_merging_runs_its_kernels_and_agrees(recipe: str, least: float, tmp_path: Path) -> None:
    model = ferrule.compress(vit(), recipe)
    engine = open_model(model, tmp_path)
    found = ops(engine, {name: value.numpy() for name, value in model.proofs()[0].items()})
    assert found.count("token_match") == found.count("token_merge") == found.count("attention") == 6
    assert not {"permute", "softmax", "matmul"} & set(found)
    agree(engine, model, least)


def test_merging_of_padded_rows_agrees_at_every_length(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
    module = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    x, tokens = torch.randn(2, 20, 32), ferrule.Dim("tokens", 2, 40)
    model = ferrule.compress(as_model(module, {"src": x}, {"src": {1: tokens}}), "tome8")
    engine = open_model(model, tmp_path)
    merged = model.entry_points["forward"].module
    for length in (20, 7, 40, 2):
        x = torch.randn(2, length, 32)
        with torch.no_grad():
            want = merged(x)
        np.testing.assert_allclose(engine.run("forward", {"src": x.numpy()})[0], want.numpy(), rtol=1e-4, atol=1e-4)
    assert ops(engine, {"src": x.numpy()}).count("token_match") == 3


class Blocks(nn.Module):
    """Inverted residual blocks as mobile networks have them: expansion, depthwise, projection, with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.up, self.depth, self.down = (
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(a, b, size, padding=size // 2, groups=groups, bias=False), nn.BatchNorm2d(b))
                for _ in range(2)
            )
            for a, b, size, groups in ((8, 48, 1, 1), (48, 48, 3, 48), (48, 8, 1, 1))
        )
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, -1.5, 1.5)
                nn.init.uniform_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.norm(self.stem(x)))
        for up, depth, down in zip(self.up, self.depth, self.down, strict=True):
            x = x + down(functional.relu6(depth(functional.relu6(up(x)))))
        return x.mean((2, 3))


def test_coded_convolutions_keep_codes_between_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pictures = [{"x": torch.randn(2, 3, 33, 32)} for _ in range(3)]
    model = ferrule.compress(as_model(Blocks().eval(), pictures[0]), "conv8", calibration=pictures)
    engine = open_model(model, tmp_path)
    found = ops(engine, {"x": pictures[0]["x"].numpy()})
    assert sorted(found) == ["conv"] * 7 + ["permute", "reduce"]
    for inputs in pictures:
        with torch.no_grad():
            want = model.entry_points["forward"].module(inputs["x"])
        got = torch.from_numpy(engine.run("forward", {"x": inputs["x"].numpy()})[0])
        assert functional.cosine_similarity(got.flatten(), want.flatten(), 0) > 0.9999
    data = (tmp_path / native.FILE).read_bytes()
    nodes = json.loads(bytes(load_file(tmp_path / native.FILE)["program.json"]))["entries"][0]["nodes"]
    told = [node.get("output_scale") for node in nodes if node["op"] == "conv"]
    # Residuals are added in float; what lies between is rounded once, where it is written.
    assert [scale is not None for scale in told] == [False, True, True, False, True, True, False]
    assert len(data) < 4 * sum(p.numel() for p in model.entry_points["forward"].module.parameters()) + 20_000


def test_other_targets_refuse_coded_convolutions_or_expand_them(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from ferrule.converters import onnx

    torch.manual_seed(0)
    x = torch.randn(1, 3, 8, 8)
    model = ferrule.compress(as_model(nn.Conv2d(3, 4, 3), {"input": x}), "conv8", calibration=[{"input": x}])
    with pytest.raises(LoweringError, match="int8 convolution weights per channel") as caught:
        onnx.lower(capture(model), load("raspberry-pi-5"), tmp_path)
    assert caught.value.code == "FER-LOW-002" and "conv8" in caught.value.hint
    notes = onnx.lower(capture(model), load("raspberry-pi-5"), tmp_path, expand=True).notes
    assert any("expanded to float32" in note for note in notes)


def vit() -> ferrule.Model:
    if find_spec("timm") is None:  # its import needs what load_model declares first
        pytest.skip("timm is not installed")
    return ferrule.load_model("sample:vit")


def open_model(model: ferrule.Model, folder: Path) -> NativeEngine:
    program = native.lower(capture(model), load("raspberry-pi-5"), folder)
    return open_engine(folder / program.main, program.entry_points, 1)


def agree(engine: NativeEngine, model: ferrule.Model, least: float) -> None:
    for inputs in model.proofs()[:4]:
        with torch.no_grad():
            want = model.entry_points["forward"].module(*inputs.values())
        got = torch.from_numpy(engine.run("forward", {name: value.numpy() for name, value in inputs.items()})[0])
        assert functional.cosine_similarity(got.flatten(), want.flatten(), 0) > least


@pytest.mark.parametrize(("recipe", "least"), [("w8", 0.9999), ("w8a8", 0.999), ("w4g32", 0.999)])
def test_coded_layers_agree_with_the_compressed_model(recipe: str, least: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64), nn.LayerNorm(64))
    model = ferrule.compress(as_model(module.eval(), {"input": torch.randn(3, 64)}), recipe)
    program = native.lower(capture(model), load("raspberry-pi-5"), tmp_path)
    engine = open_engine(tmp_path / program.main, program.entry_points, 1)
    x = torch.randn(3, 64)
    with torch.no_grad():
        want = model.entry_points["forward"].module(x)
    got = torch.from_numpy(engine.run("forward", {"input": x.numpy()})[0])
    assert functional.cosine_similarity(got.flatten(), want.flatten(), 0) > least
    float_bytes = 4 * (64 * 128 * 2)
    assert (tmp_path / program.main).stat().st_size < float_bytes / 2


@pytest.mark.parametrize(("recipe", "codes"), [("w8a8", True), ("w8", False)])
def test_attention_multiplies_codes_where_linear_layers_do(recipe: str, codes: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    inputs = {"x": torch.randn(1, 40, 32), "mask": torch.ones(1, 40, dtype=torch.int64)}
    dims = {"x": {1: TOKENS}, "mask": {1: TOKENS}}
    model = ferrule.compress(as_model(Block(False).eval(), inputs, dims), recipe)
    program = native.lower(capture(model), load("raspberry-pi-5"), tmp_path)
    assert (b'"products":"int8"' in (tmp_path / program.main).read_bytes()) == codes
    assert any(note.startswith("Attention multiplies int8 codes") for note in program.notes) == codes
    engine = open_engine(tmp_path / program.main, program.entry_points, 1)
    for length, shown in ((40, 40), (48, 30), (17, 1), (3, 2)):
        x, mask = torch.randn(1, length, 32), torch.zeros(1, length, dtype=torch.int64)
        mask[:, :shown] = 1
        with torch.no_grad():
            want = model.entry_points["forward"].module(x, mask)
        got = torch.from_numpy(engine.run("forward", {"x": x.numpy(), "mask": mask.numpy()})[0])
        assert functional.cosine_similarity(got.flatten(), want.flatten(), 0) > 0.999


class Counter(nn.Module):
    """Adds up what it was given."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x)
        return self.total * 2


def test_buffers_that_are_written_become_states(tmp_path: Path) -> None:
    x = torch.randn(1, 4)
    engine = open_module(Counter(), {"x": x}, tmp_path)
    for turn in (1, 2, 3):
        np.testing.assert_allclose(engine.run("forward", {"x": x.numpy()})[0], 2 * turn * x.numpy(), rtol=1e-5)
    engine.reset()
    np.testing.assert_allclose(engine.run("forward", {"x": x.numpy()})[0], 2 * x.numpy(), rtol=1e-5)


def test_an_unknown_op_is_refused_by_name_and_line(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match=r"FER-LOW-001: Op aten\.\w+.* at converters/test_native\.py:\d+ is used"):
        open_module(Function(lambda x: torch.linalg.inv(x)), {"x": torch.eye(4)[None]}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in "ab":
        torch.manual_seed(0)
        folder = tmp_path / name
        folder.mkdir()
        open_module(Block(True), {"x": torch.zeros(1, 9, 32), "mask": torch.ones(1, 9, dtype=torch.int64)}, folder)
        files.append((folder / native.FILE).read_bytes())
    assert files[0] == files[1]
