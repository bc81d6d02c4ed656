"""The onnx target: every codec runs in ONNX Runtime as its torch reference says, and the file holds the codes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ferrule.codec import Affine, Range, encode_affine
from ferrule.coded import ACTIVATION_STATIC, CodedEmbedding, CodedLinear
from ferrule.converters.onnx import lower
from ferrule.device_profiles import load
from ferrule.errors import BundleError, LoweringError
from ferrule.model import EntryPoint, Model, capture
from ferrule.palette import encode_lookup
from ferrule.program import Dim, Program, Signature, TensorSpec
from ferrule.runtime.session import open_program

DEVICE = load("raspberry-pi-5")
TOKENS = Dim("tokens", 1, 64)
BATCH = Dim("batch", 1, 8)

# bits, group, activation, and the largest error relative to the largest output. Codecs whose inputs ONNX Runtime
# rounds to int8 in another way than the reference may differ by what int8 costs, those whose inputs it takes as
# 16 bits by what these cost; the others must not.
CODECS = [
    pytest.param(8, 0, 0, 1e-4, id="w8"),
    pytest.param(8, 0, 1, 1e-5, id="w8a8"),
    pytest.param(8, 32, 0, 1e-4, id="w8g32"),
    pytest.param(8, 32, 1, 3e-2, id="w8g32a8"),
    pytest.param(4, 32, 0, 1e-5, id="w4g32"),
    pytest.param(4, 32, 1, 3e-2, id="w4g32a8"),
    pytest.param(4, 16, 0, 1e-5, id="w4g16"),
    pytest.param(4, 512, 0, 1e-5, id="w4g512"),
    pytest.param(4, 0, 0, 1e-5, id="w4"),
    pytest.param(4, 0, 1, 3e-2, id="w4a8"),
]


def make_linear(columns: int, rows: int, bits: int, group: int, activation: int, bias: bool = True) -> CodedLinear:
    torch.manual_seed(columns * 1000 + rows)
    codec = encode_affine(torch.randn(rows, columns), bits, group)
    return CodedLinear(codec, torch.randn(rows) if bias else None, activation)


def make_model(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    dynamic: Mapping[str, Mapping[int, Dim]] | None = None,
    outputs: tuple[str, ...] = (),
) -> Model:
    return Model({"forward": EntryPoint(module.eval(), inputs, dynamic or {}, {}, outputs)}, source="test")


def build(model: Model, folder: Path, expand: bool = False) -> Program:
    folder.mkdir(parents=True, exist_ok=True)
    return lower(capture(model), DEVICE, folder, expand)


def run(program: Program, folder: Path, inputs: Mapping[str, Tensor], entry: str = "forward") -> list[Any]:
    with open_program(folder / program.main, "onnx", program.entry_points) as session:
        outputs = session.run({k: v.numpy() for k, v in inputs.items()}, entry)
    return [outputs[spec.name] for spec in program.entry_points[entry].outputs]


def relative_error(found: Any, wanted: Tensor) -> float:
    assert found.shape == tuple(wanted.shape)
    return float(np.abs(found - wanted.numpy()).max() / wanted.abs().max())


def stored(path: Path) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


class Several(nn.Module):
    """Linear layers of several widths side by side, one input and one output each."""

    def __init__(self, layers: list[CodedLinear]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        return tuple(layer(x) for layer, x in zip(self.layers, (a, b, c), strict=True))


@pytest.mark.parametrize(("bits", "group", "activation", "bound"), CODECS)
def test_linear_agrees_with_the_reference(tmp_path: Path, bits: int, group: int, activation: int, bound: float) -> None:
    widths = {"a": 7, "b": 50, "c": 530}
    module = Several([make_linear(n, 33, bits, group, activation) for n in widths.values()])
    # Rows of different ranges, some without a negative number: a scale for the whole tensor would fail.
    ranges = torch.tensor([[0.01], [1.0], [100.0], [0.0], [3.0]])
    inputs = {name: torch.randn(5, n) * ranges for name, n in widths.items()}
    inputs = {name: torch.cat([x[:4], x[4:].abs() + 1]) for name, x in inputs.items()}
    program = build(make_model(module, inputs), tmp_path)
    with torch.no_grad():
        wanted = module(**inputs)
    for found, want in zip(run(program, tmp_path, inputs), wanted, strict=True):
        for row in range(5):
            assert relative_error(found[row], want[row]) < bound
    assert any("int8 with a symmetric scale" in note for note in program.notes) == (bound > 1e-2)


@pytest.mark.parametrize(("bits", "group", "activation"), [(8, 0, 1), (4, 32, 0)])
@pytest.mark.parametrize("shape", [(50,), (2, 3, 50), (2, 1, 3, 50)])
def test_inputs_of_every_rank(tmp_path: Path, shape: tuple[int, ...], bits: int, group: int, activation: int) -> None:
    layer = make_linear(50, 6, bits, group, activation, bias=False)
    x = torch.randn(shape)
    program = build(make_model(layer, {"x": x}), tmp_path)
    with torch.no_grad():
        assert relative_error(run(program, tmp_path, {"x": x})[0], layer(x)) < 1e-5


@pytest.mark.parametrize(("width", "bits", "group"), [(37, 8, 0), (40, 4, 0), (10, 8, 0), (80, 4, 32)])
def test_embedding_is_exact(tmp_path: Path, width: int, bits: int, group: int) -> None:
    layer = CodedEmbedding(encode_affine(torch.randn(101, width), bits, group))
    indices = torch.tensor([[0, 100, 7], [7, 1, 99]])
    program = build(make_model(layer, {"indices": indices}), tmp_path)
    (found,) = run(program, tmp_path, {"indices": indices})
    assert np.array_equal(found, layer(indices).numpy())
    (row,) = program.weights
    assert (row.kind, row.elements) == ("embedding", 101 * width)
    assert program.entry_points["forward"].inputs[0].dtype == "int64"


@pytest.mark.parametrize(("bits", "group", "activation", "share"), [(8, 0, 1, 0.27), (8, 0, 0, 0.27), (4, 32, 1, 0.16)])
def test_file_is_as_small_as_the_codec(tmp_path: Path, bits: int, group: int, activation: int, share: float) -> None:
    module = nn.Sequential(
        make_linear(384, 768, bits, group, activation), nn.GELU(), make_linear(768, 384, bits, group, activation)
    )
    program = build(make_model(module, {"x": torch.randn(2, 384)}), tmp_path)
    linear = {row.kind: row for row in program.weights}["linear"]
    assert linear.elements == 2 * 384 * 768
    assert linear.bytes <= share * linear.fp32_bytes
    files = list(tmp_path.iterdir())
    assert [file.name for file in files] == ["forward.onnx"]
    assert files[0].stat().st_size < linear.bytes + 16_000


def test_file_holds_our_codes_and_scales(tmp_path: Path) -> None:
    eight, four = make_linear(50, 6, 8, 0, 1), make_linear(6, 40, 4, 32, 0)
    build(make_model(nn.Sequential(eight, four), {"x": torch.randn(2, 50)}), tmp_path)
    tensors = stored(tmp_path / "forward.onnx")
    assert not [n for n, t in tensors.items() if t.dtype == np.float32 and t.size >= 240]
    (codes,) = [t for t in tensors.values() if t.dtype == np.int8]
    assert np.array_equal(codes, eight.codes.numpy().T)
    (packed,) = [t for n, t in tensors.items() if t.dtype == np.uint8 and n.endswith("codes")]
    unpacked = np.stack([packed & 15, packed >> 4], -1).reshape(40, -1)[:, :6].astype(np.int8) - 8
    assert np.array_equal(unpacked, four.codes.numpy())
    scales = [t.reshape(-1) for n, t in tensors.items() if n.endswith("scales")]
    assert any(np.array_equal(s, eight.scales.numpy().reshape(-1)) for s in scales)
    assert any(np.array_equal(s, four.scales.numpy().reshape(-1)) for s in scales)


@pytest.mark.parametrize(("bits", "group"), [(4, 24), (8, 8), (2, 32)])
def test_codec_without_a_native_form_is_refused_or_expanded(tmp_path: Path, bits: int, group: int) -> None:
    layer = make_linear(50, 6, bits, group, 0)
    x = torch.randn(3, 50)
    model = make_model(nn.Sequential(layer), {"x": x})
    with pytest.raises(LoweringError, match=rf"int{bits} linear weights in groups of {group}.*'0'") as caught:
        build(model, tmp_path)
    assert caught.value.code == "FER-LOW-002"
    program = build(model, tmp_path, expand=True)
    assert "expanded to float32" in program.notes[0]
    assert relative_error(run(program, tmp_path, {"x": x})[0], layer(x)) < 1e-5


def test_odd_int4_embedding_is_refused_or_expanded(tmp_path: Path) -> None:
    layer = CodedEmbedding(encode_affine(torch.randn(9, 7), 4))
    model = make_model(layer, {"indices": torch.tensor([1, 2])})
    with pytest.raises(LoweringError, match="width must be even"):
        build(model, tmp_path)
    program = build(model, tmp_path, expand=True)
    (found,) = run(program, tmp_path, {"indices": torch.tensor([8, 0])})
    assert np.array_equal(found, layer(torch.tensor([8, 0])).numpy())


class Eigen(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.eigh(x @ x.t())[0]


def test_unknown_op_is_named_with_layer_and_line(tmp_path: Path) -> None:
    model = make_model(nn.Sequential(nn.Linear(4, 4), Eigen()), {"x": torch.randn(3, 4)})
    with pytest.raises(LoweringError, match=r"eigh' in layer '1' at .*test_onnx\.py:\d+") as caught:
        build(model, tmp_path)
    assert caught.value.code == "FER-LOW-001"
    assert caught.value.hint


class Counting(nn.Module):
    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.steps += 1
        return x + self.steps


def test_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match="'steps'") as caught:
        build(make_model(Counting(), {"x": torch.randn(3)}), tmp_path)
    assert caught.value.code == "FER-LOW-004"


class Tiny(nn.Module):
    """Tokens in, two outputs; sizes that are multiples of nothing."""

    def __init__(self, activation: int = 1) -> None:
        super().__init__()
        self.table = CodedEmbedding(encode_affine(torch.randn(30, 45), 8))
        self.up = make_linear(45, 75, 8, 0, activation)
        self.down = make_linear(75, 45, 4, 32, activation)
        self.norm = nn.LayerNorm(45)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        h = self.table(ids)
        h = self.norm(h + self.down(torch.nn.functional.gelu(self.up(h))))
        kept = mask.unsqueeze(-1).to(h.dtype)
        return (h * kept).sum(1) / kept.sum(1), h


def tiny_inputs(batch: int, tokens: int) -> dict[str, Tensor]:
    torch.manual_seed(batch * 100 + tokens)
    mask = torch.ones(batch, tokens, dtype=torch.int64)
    return {"ids": torch.randint(0, 30, (batch, tokens)), "mask": mask}


def test_lengths_are_chosen_at_run_time(tmp_path: Path) -> None:
    module = Tiny(activation=0)
    dynamic = {name: {0: BATCH, 1: TOKENS} for name in ("ids", "mask")}
    program = build(make_model(module, tiny_inputs(2, 5), dynamic), tmp_path)
    signature = program.entry_points["forward"]
    assert signature.buckets == ()
    assert signature.inputs[0].shape == ("batch", "tokens")
    for batch, tokens in ((1, 1), (2, 5), (8, 64)):
        inputs = tiny_inputs(batch, tokens)
        with torch.no_grad():
            wanted = module(**inputs)
        for found, want in zip(run(program, tmp_path, inputs), wanted, strict=True):
            assert relative_error(found, want) < 1e-4
    graph = onnx.load(tmp_path / "forward.onnx").graph
    assert [d.dim_param for d in graph.input[0].type.tensor_type.shape.dim] == ["batch", "tokens"]


def test_delegation_names_every_op_that_ran(tmp_path: Path) -> None:
    program = build(make_model(Tiny(), tiny_inputs(1, 5)), tmp_path)
    rows = {row.op: row for row in program.delegation}
    assert rows["MatMulIntegerToFloat"].count == rows["MatMulNBits"].count == 1
    assert rows["GatherBlockQuantized"].count == 1
    assert {(row.unit, row.basis) for row in program.delegation} == {("cpu:mlas", "measured")}
    assert all(row.reason for row in program.delegation)


def test_entry_points_share_their_weights(tmp_path: Path) -> None:
    layer = make_linear(128, 256, 8, 0, 1)
    plain = nn.Linear(256, 64)
    inputs = {"x": torch.randn(2, 128)}
    entries = {
        "prefill": EntryPoint(nn.Sequential(layer, nn.GELU(), plain).eval(), inputs),
        "decode": EntryPoint(nn.Sequential(layer, nn.ReLU(), plain).eval(), inputs),
    }
    program = build(Model(entries, source="test"), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"prefill.onnx", "decode.onnx", "weights.bin"}
    assert program.main == "prefill.onnx"
    linear = {row.kind: row for row in program.weights}["linear"]
    assert linear.elements == 128 * 256 + 256 * 64
    assert (tmp_path / "weights.bin").stat().st_size < 128 * 256 + 4 * 256 * 64 + 6_000
    assert any("weights.bin" in note for note in program.notes)
    for name, entry in entries.items():
        with torch.no_grad():
            assert relative_error(run(program, tmp_path, inputs, name)[0], entry.module(inputs["x"])) < 1e-5


def test_weights_beyond_the_limit_of_a_file_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferrule.converters.onnx_file._LIMIT", 100_000)
    layer, x = nn.Linear(200, 200), torch.randn(2, 200)
    program = build(make_model(layer, {"x": x}), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"forward.onnx", "weights.bin"}
    assert (tmp_path / "forward.onnx").stat().st_size < 2_000
    with torch.no_grad():
        assert relative_error(run(program, tmp_path, {"x": x})[0], layer(x)) < 1e-5


@pytest.mark.parametrize(("bits", "group", "activation"), [(8, 0, 0), (8, 0, 1), (4, 32, 0)])
def test_layer_that_runs_twice_is_stored_once(tmp_path: Path, bits: int, group: int, activation: int) -> None:
    layer, x = make_linear(64, 64, bits, group, activation), torch.randn(3, 64)
    module = nn.Sequential(layer, nn.ReLU(), layer)
    program = build(make_model(module, {"x": x}), tmp_path)
    assert {row.kind: row.elements for row in program.weights}["linear"] == 64 * 64
    with torch.no_grad():
        wanted = module(x)
    assert relative_error(run(program, tmp_path, {"x": x})[0], wanted) < (1e-2 if activation else 1e-4)


class Clashing(nn.Module):
    """Names that meet: a buffer called as an input, an input handed through, a result handed out twice."""

    x: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("x", torch.arange(4.0))
        self.linear = nn.Linear(4, 4)

    def forward(self, add: Tensor) -> tuple[Tensor, ...]:
        total = self.linear(add + self.x)
        return total, add, total, self.x


def test_names_of_inputs_and_outputs_are_ours(tmp_path: Path) -> None:
    module, inputs = Clashing(), {"add": torch.randn(2, 4)}
    model = make_model(module, inputs, outputs=("linear", "x", "add_1", "linear.weight"))
    program = build(model, tmp_path)
    with torch.no_grad():
        wanted = module(inputs["add"])
    for found, want in zip(run(program, tmp_path, inputs), wanted, strict=True):
        assert relative_error(found, want) < 1e-6


def test_convolutions_and_floats_pass(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 9, 3, stride=2, padding=1),
        nn.BatchNorm2d(9),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        make_linear(9, 5, 8, 0, 1),
        nn.Linear(5, 2048),
        nn.Linear(2048, 1025),
    ).eval()
    x = torch.randn(1, 3, 15, 15)
    program = build(make_model(module, {"image": x}), tmp_path)
    with torch.no_grad():
        assert relative_error(run(program, tmp_path, {"image": x})[0], module(x)) < 1e-4
    linear = {row.kind: row for row in program.weights}["linear"]
    assert linear.elements == 9 * 5 + 5 * 2048 + 2048 * 1025


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: self.linear(y) + 1.0, lambda y: y - 1.0, (x,))


def test_branches_are_kept(tmp_path: Path) -> None:
    module = Branching()
    program = build(make_model(module, {"x": torch.ones(2, 8)}), tmp_path)
    for x in (torch.ones(2, 8), -torch.ones(2, 8)):
        assert relative_error(run(program, tmp_path, {"x": x})[0], module(x).detach()) < 1e-5


def test_no_trace_of_the_place_of_work(tmp_path: Path) -> None:
    build(make_model(Tiny(), tiny_inputs(1, 5)), tmp_path)
    content = (tmp_path / "forward.onnx").read_bytes()
    for trace in (b"stack_trace", b"test_onnx", b"site-packages", b"pkg.torch", str(Path.cwd()).encode()):
        assert trace not in content
    assert not list(onnx.load(tmp_path / "forward.onnx").metadata_props)


AGAIN = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("again", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import torch
torch.manual_seed(0)
tiny = module.Tiny()
module.build(module.make_model(tiny, module.tiny_inputs(2, 5)), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_same_bytes_in_another_process_and_folder(tmp_path: Path) -> None:
    contents = []
    for seed in ("1", "2"):
        folder = tmp_path / f"folder{seed}"
        subprocess.run(
            [sys.executable, "-c", AGAIN, __file__, str(folder)],
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        contents.append((folder / "forward.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_threads_do_not_change_the_result(tmp_path: Path) -> None:
    inputs = tiny_inputs(1, 64)
    program = build(make_model(Tiny(), inputs), tmp_path)
    results = []
    for threads in (1, 2):
        with open_program(tmp_path / program.main, "onnx", program.entry_points, threads) as session:
            assert session.engine.name == "onnxruntime"
            results.append(session.run({k: v.numpy() for k, v in inputs.items()})["output_1"])
    assert np.allclose(results[0], results[1], atol=1e-5)


def test_codes_reach_the_extremes(tmp_path: Path) -> None:
    codes = torch.tensor([[-128, 127, -128, 127], [127, 127, 127, 127]], dtype=torch.int8)
    layer = CodedLinear(Affine(codes, torch.tensor([[0.5], [0.25]]), 8), None, 1)
    x = torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    program = build(make_model(layer, {"x": x}), tmp_path)
    assert np.allclose(run(program, tmp_path, {"x": x})[0], layer(x).numpy(), rtol=1e-6)


def make_static(columns: int, rows: int, x: Tensor, bias: bool = True, bits: int = 8, group: int = 0) -> CodedLinear:
    """A static layer whose ranges clip a little, as calibrated ones do."""
    plain = make_linear(columns, rows, bits, group, 0, bias)
    with torch.no_grad():
        y = plain(x)
    ranges = [Range.between(0.9 * float(v.min()), 0.9 * float(v.max())) for v in (x, y)]
    return CodedLinear(plain.codec, plain.bias, ACTIVATION_STATIC, (ranges[0], ranges[1]))


def steps_apart(found: Any, wanted: Tensor, layer: CodedLinear) -> Any:
    """Differences in steps of the layer's output."""
    assert found.shape == tuple(wanted.shape)
    return np.abs(found - wanted.detach().numpy()) / layer.ranges[2]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40, 51), (2, 20, 51), (2, 3, 7, 51)])
def test_static_layer_differs_by_a_step_where_sums_lie_between_two(
    tmp_path: Path, shape: tuple[int, ...], bias: bool
) -> None:
    torch.manual_seed(5)
    x = torch.randn(shape)
    layer = make_static(51, 70, x, bias)
    program = build(make_model(layer, {"x": x}), tmp_path)
    steps = steps_apart(run(program, tmp_path, {"x": x})[0], layer(x), layer)
    # Sums are the same integers but for a bias rounded to half of one; only those half-way between steps may turn.
    assert steps.max() < 1.01 and (steps > 0.01).mean() < 0.005
    assert program.notes == ()
    assert {row.op: row.count for row in program.delegation if row.op.startswith("QG")} == {"QGemm": 1}
    (codes,) = [t for n, t in stored(tmp_path / "forward.onnx").items() if n.endswith("codes")]
    assert codes.dtype == np.int8 and np.array_equal(codes, layer.codes.numpy().T)


def test_static_mlp_with_lengths_chosen_at_run_time(tmp_path: Path) -> None:
    torch.manual_seed(6)
    x = torch.randn(1, 64, 96)
    up = make_static(96, 150, x)
    down = make_static(150, 33, torch.nn.functional.gelu(up(x)))
    module = nn.Sequential(up, nn.GELU(), down)
    program = build(make_model(module, {"input": x}, {"input": {1: TOKENS}}), tmp_path)
    for length in (1, 7, 64):
        steps = steps_apart(run(program, tmp_path, {"input": x[:, :length]})[0], module(x[:, :length]), down)
        assert steps.max() < 2.01 and (steps > 0.01).mean() < 0.03
    linear = {row.kind: row for row in program.weights}["linear"]
    assert linear.elements == 150 * (96 + 33) and linear.bytes <= 0.27 * linear.fp32_bytes
    build(make_model(module, {"input": x}, {"input": {1: TOKENS}}), tmp_path / "again")
    assert (tmp_path / "forward.onnx").read_bytes() == (tmp_path / "again" / "forward.onnx").read_bytes()


def test_static_bias_beyond_int32_and_output_that_is_always_zero(tmp_path: Path) -> None:
    x = torch.randn(20, 16)
    weight = torch.cat([torch.zeros(1, 16), torch.full((1, 16), 1e-6), torch.randn(2, 16)])
    ranges = Range.between(-3, 3), Range.between(-6, 6)
    layer = CodedLinear(encode_affine(weight, 8), torch.tensor([5.0, -5.0, 0.5, 0.0]), ACTIVATION_STATIC, ranges)
    program = build(make_model(layer, {"x": x}), tmp_path)
    assert steps_apart(run(program, tmp_path, {"x": x})[0], layer(x), layer).max() < 1.01
    silent = CodedLinear(layer.codec, None, ACTIVATION_STATIC, (ranges[0], Range.between(0, 0)))
    build(make_model(silent, {"x": x}), tmp_path)


def test_static_int4_is_refused(tmp_path: Path) -> None:
    x = torch.randn(5, 64)
    for group in (0, 32):
        model = make_model(make_static(64, 6, x, bits=4, group=group), {"x": x})
        with pytest.raises(LoweringError, match="static int8 activations.*take int8 weights only") as caught:
            build(model, tmp_path)
        assert caught.value.code == "FER-LOW-002"


def test_palettes_are_refused_or_expanded(tmp_path: Path) -> None:
    codec = encode_lookup(torch.randn(32, 20), 4, group=16)
    for layer, x in (
        (CodedLinear(codec, torch.randn(32), 0), torch.randn(3, 20)),
        (CodedEmbedding(codec), torch.tensor([3, 31])),
    ):
        model = make_model(nn.Sequential(layer), {"input": x})
        with pytest.raises(LoweringError, match="4-bit palette indices of .* weights of layer '0'") as caught:
            build(model, tmp_path)
        assert caught.value.code == "FER-LOW-002" and "Core ML" in caught.value.hint
        program = build(model, tmp_path, expand=True)
        assert "expanded to float32" in program.notes[0]
        assert relative_error(run(program, tmp_path, {"input": x})[0], layer(x)) < 1e-5


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "forward.onnx").write_bytes(b"\x08\x07not a model")
    signature = Signature((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))
    with pytest.raises(BundleError, match="FER-BUN-020.*forward.onnx"):
        open_program(tmp_path / "forward.onnx", "onnx", {"forward": signature})
