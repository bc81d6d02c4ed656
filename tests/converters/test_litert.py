"""The litert target: small models lowered, run in LiteRT, and the file read back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferrule.codec import Affine, Range, encode_affine
from ferrule.coded import ACTIVATION_DYNAMIC, ACTIVATION_NONE, ACTIVATION_STATIC, CodedEmbedding, CodedLinear
from ferrule.converters.buckets import bucket_lengths
from ferrule.converters.litert import lower
from ferrule.converters.litert_flatbuffer import op_name, read_model
from ferrule.device_profiles import load
from ferrule.errors import BundleError, InputError, LoweringError
from ferrule.model import Dim, EntryPoint, Model, as_model, capture
from ferrule.palette import encode_lookup
from ferrule.program import Program
from ferrule.runtime.session import Session, open_program

DEVICE = load("pixel-9")
CODECS = {
    # name: bits, group, activation, cosine to the coded reference at least
    "w8": (8, 0, ACTIVATION_NONE, 0.999999),
    "w8a8": (8, 0, ACTIVATION_DYNAMIC, 0.9999),
    "w4a8": (4, 0, ACTIVATION_DYNAMIC, 0.9999),
    "w4g32": (4, 32, ACTIVATION_DYNAMIC, 0.9999),
}


def coded_linear(rows: int, columns: int, codec: str, bias: bool = True) -> CodedLinear:
    bits, group, activation, _ = CODECS[codec]
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) / columns**0.5
    return CodedLinear(encode_affine(weight, bits, group), torch.linspace(-1, 1, rows) if bias else None, activation)


class OddMlp(nn.Module):
    """67 -> 130 -> 5: columns that are no multiple of 32, one layer without bias."""

    def __init__(self, codec: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(67)
        self.up = coded_linear(130, 67, codec)
        self.down = coded_linear(5, 130, codec, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(nn.functional.gelu(self.up(self.norm(x))))
        return y


def build(folder: Path, model: Model | nn.Module, *inputs: Tensor, expand: bool = False) -> tuple[Program, Session]:
    folder.mkdir(exist_ok=True)
    program = lower(capture(as_model(model, inputs)), DEVICE, folder, expand)
    return program, open_program(folder / program.main, "litert", program.entry_points)


def cosine(a: Any, b: Any) -> float:
    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def eager(module: nn.Module, *inputs: Tensor) -> Any:
    with torch.no_grad():
        return module(*inputs)


def tensors(path: Path) -> Mapping[str, tuple[Any, Any]]:
    """name -> tensor and its bytes, over all subgraphs."""
    model = read_model(path.read_bytes())
    return {t.name.decode(): (t, model.buffers[t.buffer].data) for graph in model.subgraphs for t in graph.tensors}


@pytest.mark.parametrize(
    ("codec", "shape"),
    [("w8", (3, 67)), ("w8a8", (1, 4, 67)), ("w8a8", (67,)), ("w4a8", (3, 67)), ("w4g32", (2, 3, 2, 67))],
)
def test_mlp_of_odd_sizes_agrees_with_its_reference(tmp_path: Path, codec: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module, x = OddMlp(codec), torch.randn(shape)
    _, session = build(tmp_path, module, x)
    with session:
        output = session.run({"x": x.numpy()})["output"]
    expected = eager(module, x).numpy()
    assert output.shape == expected.shape
    assert cosine(output, expected) >= CODECS[codec][3]


@pytest.mark.parametrize("codec", ["w8", "w8a8", "w4a8"])
def test_one_layer_is_exact(tmp_path: Path, codec: str) -> None:
    """With a scale a row nothing but the order of float additions differs from the reference."""
    torch.manual_seed(1)
    module, x = coded_linear(50, 100, codec), torch.randn(4, 100)
    _, session = build(tmp_path, module, x)
    np.testing.assert_allclose(session.run({"x": x.numpy()})["output"], eager(module, x).numpy(), atol=5e-6)


def test_group_scales_are_rounded_to_bfloat16_by_the_runtime_as_noted(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, x = coded_linear(50, 100, "w4g32"), torch.randn(4, 100)
    module.scales.mul_(1.003).copy_(module.scales.half())  # our own encoder's scales are bfloat16 already
    program, session = build(tmp_path, module, x)
    output = session.run({"x": x.numpy()})["output"]
    assert np.abs(output - eager(module, x).numpy()).max() > 1e-4
    module.scales.copy_(module.scales.bfloat16().float())
    np.testing.assert_allclose(output, eager(module, x).numpy(), atol=5e-6)
    assert any("bfloat16" in note for note in program.notes)


def test_file_holds_our_codes_and_scales(tmp_path: Path) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.row, self.block = coded_linear(96, 80, "w8a8"), coded_linear(40, 96, "w4g32")

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.block(self.row(x))
            return y

    module = Both()
    program, _ = build(tmp_path, module, torch.randn(2, 80))
    found = tensors(tmp_path / program.main)
    row, data = found["row.codes"]
    assert np.array_equal(data.view(np.int8).reshape(96, 80), module.row.codes.numpy())
    assert np.array_equal(row.quantization.scale, module.row.scales.numpy().ravel())
    block, data = found["block.codes"]
    nibbles = np.stack([data & 15, data >> 4], -1).reshape(40, 96).astype(np.int8)
    assert np.array_equal(np.where(nibbles > 7, nibbles - 16, nibbles), module.block.codes.numpy())
    assert block.quantization.details.blockSize == 32
    assert np.array_equal(found["block.scales"][1].view(np.float16), module.block.scales.numpy().ravel())


@pytest.mark.parametrize(("codec", "share"), [("w8a8", 0.27), ("w4g32", 0.16)])
def test_file_is_as_small_as_the_codec(tmp_path: Path, codec: str, share: float) -> None:
    program, _ = build(tmp_path, coded_linear(256, 384, codec), torch.randn(2, 384))
    linear = next(w for w in program.weights if w.kind == "linear")
    assert linear.elements == 256 * 384
    assert linear.bytes <= share * linear.fp32_bytes
    assert (tmp_path / program.main).stat().st_size < share * linear.fp32_bytes + 6000


@pytest.mark.parametrize(("bits", "width"), [(8, 33), (4, 34)])
def test_embedding_stays_coded_and_exact(tmp_path: Path, bits: int, width: int) -> None:
    torch.manual_seed(2)
    module, ids = CodedEmbedding(encode_affine(torch.randn(300, width), bits)), torch.randint(0, 300, (2, 5))
    program, session = build(tmp_path, module, ids)
    assert np.array_equal(session.run({"indices": ids.numpy()})["output"], eager(module, ids).numpy())
    stored = next(w for w in program.weights if w.kind == "embedding")
    # One byte or half a byte a code; 12 bytes of scale and zero point a row.
    assert stored.bytes == 300 * width * bits // 8 + 300 * 12
    assert program.entry_points["forward"].inputs[0].dtype == "int32"


class Tagger(nn.Module):
    """A sequence model with a float table and shared coded layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(500, 64)
        self.layer = coded_linear(64, 64, "w8a8")
        self.head = coded_linear(9, 64, "w4g32")

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        hidden = torch.tanh(self.layer(self.table(ids))) * mask.unsqueeze(-1)
        return {"tags": self.head(hidden), "mean": hidden.sum(1) / mask.sum(1, keepdim=True)}


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Program, Path]:
    torch.manual_seed(3)
    module = Tagger().eval()
    entry = EntryPoint(
        module,
        {"ids": torch.randint(0, 500, (1, 7)), "mask": torch.ones(1, 7, dtype=torch.int64)},
        {"ids": {1: Dim("tokens", 2, 200)}, "mask": {1: Dim("tokens", 2, 200)}},
        {"ids": 0, "mask": 0},
    )
    fixed = EntryPoint(nn.Sequential(module.layer, nn.ReLU()), {"input": torch.randn(1, 64)})
    folder = tmp_path_factory.mktemp("tagger")
    graphs = capture(Model({"forward": entry, "probe": fixed}, source="test"))
    return module, lower(graphs, DEVICE, folder), folder / "model.tflite"


@pytest.mark.parametrize("length", [2, 15, 16, 17, 200])
def test_any_length_up_to_the_longest_bucket(tagger: tuple[nn.Module, Program, Path], length: int) -> None:
    module, program, path = tagger
    ids, mask = torch.randint(0, 500, (1, length)), torch.ones(1, length, dtype=torch.int64)
    expected = eager(module, ids, mask)
    with open_program(path, "litert", program.entry_points) as session:
        outputs = session.run({"ids": ids.numpy(), "mask": mask.numpy()})
    assert program.entry_points["forward"].buckets == (16, 64, 200)
    assert outputs["tags"].shape == (1, length, 9) and outputs["mean"].shape == (1, 64)
    assert all(cosine(outputs[name], expected[name]) > 0.9999 for name in expected)


def test_entry_points_and_buckets_share_weights(tagger: tuple[nn.Module, Program, Path]) -> None:
    module, program, path = tagger
    model = read_model(path.read_bytes())
    assert sorted(s.signatureKey for s in model.signatureDefs) == [
        b"forward_16",
        b"forward_200",
        b"forward_64",
        b"probe",
    ]
    sizes = [0 if b.data is None else len(b.data) for b in model.buffers]
    assert sizes.count(500 * 64 * 4) == 1 and sizes.count(64 * 64) == 1 and sizes.count(9 * 64 // 2) == 1
    x = torch.randn(1, 64)
    with open_program(path, "litert", program.entry_points) as session:
        output = session.run({"input": x.numpy()}, "probe")["output"]
    assert cosine(output, eager(module.layer, x).relu()) > 0.9999


def test_delegation_lists_every_op_and_its_unit(tagger: tuple[nn.Module, Program, Path]) -> None:
    _, program, path = tagger
    model = read_model(path.read_bytes())
    names = sorted(op_name(model, op) for graph in model.subgraphs for op in graph.operators)
    assert names == sorted(row.op for row in program.delegation for _ in range(row.count))
    units = {(row.op, row.unit) for row in program.delegation}
    assert ("FULLY_CONNECTED", "cpu:xnnpack") in units and ("FULLY_CONNECTED", "cpu:builtin") not in units
    assert ("EMBEDDING_LOOKUP", "cpu:builtin") in units
    assert all(row.basis == "measured" and row.reason for row in program.delegation)


def test_outputs_keep_their_names_order_and_kind(tmp_path: Path) -> None:
    class Many(nn.Module):
        def forward(self, x: Tensor, unused: Tensor, ids: Tensor) -> dict[str, Any]:
            plain = {f"k{i}": x + i for i in range(11)}
            return {**plain, "same": x, "twice": plain["k3"], "next": ids + 1, "flag": x > 0}

    inputs = {"x": torch.randn(2, 3), "unused": torch.randn(4), "ids": torch.arange(5)}
    model = as_model(Many(), inputs)
    program = lower(capture(model), DEVICE, tmp_path)
    session = open_program(tmp_path / program.main, "litert", program.entry_points)
    outputs = session.run({name: value.numpy() for name, value in inputs.items()})
    for name, value in eager(Many(), *inputs.values()).items():
        np.testing.assert_array_equal(outputs[name], value.numpy())
    assert [spec.dtype for spec in program.entry_points["forward"].outputs[-2:]] == ["int32", "bool"]


def test_convolutions(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
            self.depth, self.head = nn.Conv2d(8, 8, 3, 1, 1, groups=8), coded_linear(7, 8, "w8a8")

        def forward(self, x: Tensor) -> Tensor:
            y = nn.functional.silu(self.depth(nn.functional.relu6(self.norm(self.stem(x)))))
            z: Tensor = self.head(y.mean((2, 3)))
            return z

    torch.manual_seed(4)
    module, x = Net().eval(), torch.randn(1, 3, 33, 31)
    _, session = build(tmp_path, module, x)
    assert cosine(session.run({"x": x.numpy()})["output"], eager(module, x)) > 0.9999


REFUSED = [
    ("linear", 8, 32, ACTIVATION_DYNAMIC),
    ("linear", 4, 32, ACTIVATION_NONE),
    ("linear", 4, 0, ACTIVATION_NONE),
    ("linear", 4, 16, ACTIVATION_DYNAMIC),
    ("embedding", 8, 32, ACTIVATION_NONE),
    ("embedding", 4, 0, ACTIVATION_NONE),
]


def refused_layer(kind: str, codec: Affine, activation: int) -> nn.Module:
    return CodedLinear(codec, None, activation) if kind == "linear" else CodedEmbedding(codec)


@pytest.mark.parametrize(("kind", "bits", "group", "activation"), REFUSED)
def test_codec_without_native_form_is_refused(
    tmp_path: Path, kind: str, bits: int, group: int, activation: int
) -> None:
    layer = refused_layer(kind, encode_affine(torch.randn(10, 65), bits, group), activation)
    x = torch.randn(2, 65) if kind == "linear" else torch.tensor([3, 4])
    with pytest.raises(LoweringError, match=f"litert: int{bits} {kind} weights") as caught:
        build(tmp_path, nn.Sequential(layer), x)
    assert caught.value.code == "FER-LOW-002"
    assert "'0'" in caught.value.message and "expansion" in caught.value.hint


@pytest.mark.parametrize(("kind", "bits", "group", "activation"), [REFUSED[0], REFUSED[5]])
def test_expansion_decodes_and_says_so(tmp_path: Path, kind: str, bits: int, group: int, activation: int) -> None:
    codec = encode_affine(torch.randn(10, 65), bits, group)
    x = torch.randn(2, 65) if kind == "linear" else torch.tensor([3, 4])
    program, session = build(tmp_path, refused_layer(kind, codec, activation), x, expand=True)
    name = program.entry_points["forward"].inputs[0].name
    plain = refused_layer(kind, codec, ACTIVATION_NONE)
    np.testing.assert_allclose(session.run({name: x.numpy()})["output"], eager(plain, x), atol=1e-4)
    assert any("decoded to float32" in note for note in program.notes)


def static_linear(rows: int, columns: int, x: Tensor, bias: bool = True, bits: int = 8) -> CodedLinear:
    """A static layer whose ranges clip a little, as calibrated ones do."""
    plain = coded_linear(rows, columns, "w8a8", bias)
    y = nn.functional.linear(x, plain.weight, plain.bias)
    ranges = [Range.between(0.9 * float(v.min()), 0.9 * float(v.max())) for v in (x, y)]
    codec = plain.codec if bits == 8 else encode_affine(plain.weight, bits)
    return CodedLinear(codec, plain.bias, ACTIVATION_STATIC, (ranges[0], ranges[1]))


def steps_apart(found: Any, wanted: Tensor, layer: CodedLinear) -> Any:
    """Differences in steps of the layer's output."""
    assert found.shape == tuple(wanted.shape)
    return np.abs(found - wanted.numpy()) / layer.ranges[2]


@pytest.mark.parametrize(("shape", "bias"), [((40, 51), True), ((2, 20, 51), False), ((2, 3, 7, 51), True)])
def test_static_layer_differs_by_a_step_where_sums_lie_between_two(
    tmp_path: Path, shape: tuple[int, ...], bias: bool
) -> None:
    torch.manual_seed(5)
    x = torch.randn(shape)
    layer = static_linear(70, 51, x, bias)
    program, session = build(tmp_path, layer, x)
    steps = steps_apart(session.run({"x": x.numpy()})["output"], eager(layer, x), layer)
    # Sums are the same integers but for a bias rounded to half of one; only those half-way between steps may turn.
    assert steps.max() < 1.01 and (steps > 0.01).mean() < 0.005
    assert program.notes == ()
    ops = {row.op: row.unit for row in program.delegation}
    assert ops == dict.fromkeys(("QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"), "cpu:xnnpack")
    found = next(data for name, (_, data) in tensors(tmp_path / program.main).items() if name.endswith("codes"))
    assert np.array_equal(found.view(np.int8).reshape(70, 51), layer.codes.numpy())
    signature = program.entry_points["forward"]
    assert {spec.dtype for spec in (*signature.inputs, *signature.outputs)} == {"float32"}


class StaticBlock(nn.Module):
    """Two layers that read the same tensor, slices between ranges, a weight-only layer behind a static one."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.query, self.key = static_linear(96, 96, x), static_linear(96, 96, x, bias=False)
        hidden = eager(self.gate, x)
        self.mix = static_linear(64, 48, hidden)
        self.plain = coded_linear(33, 64, "w8")
        self.last = static_linear(33, 33, eager(self.head, x))

    def gate(self, x: Tensor) -> Tensor:
        return self.query(x)[..., :48] * torch.sigmoid(self.key(x)[..., 48:])

    def head(self, x: Tensor) -> Tensor:
        y: Tensor = self.plain(self.mix(self.gate(x)))
        return y

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.head(x))
        return y


def test_static_layers_share_their_input_and_mix_with_others(tmp_path: Path) -> None:
    torch.manual_seed(6)
    x = torch.randn(1, 40, 96)
    module = StaticBlock(x).eval()
    model = Model({"forward": EntryPoint(module, {"x": x}, {"x": {1: Dim("tokens", 3, 40)}}, {"x": 0})}, source="test")
    program, session = build(tmp_path, model)
    for length in (40, 9):
        part = x[:, :length]
        steps = steps_apart(session.run({"x": part.numpy()})["output"], eager(module, part), module.last)
        assert steps.max() < 2.01 and (steps > 0.01).mean() < 0.05
    buckets = len(program.entry_points["forward"].buckets)
    counts = {row.op: 0 for row in program.delegation}
    for row in program.delegation:
        counts[row.op] += row.count
    assert counts["QUANTIZE"] == 3 * buckets and counts["FULLY_CONNECTED"] == 5 * buckets
    assert {row.unit for row in program.delegation} == {"cpu:xnnpack"}
    linear = next(w for w in program.weights if w.kind == "linear")
    # Query and key have equal codes, which are stored once.
    assert linear.elements == 96 * 96 + 64 * 48 + 33 * 64 + 33 * 33
    build(tmp_path / "again", model)
    assert (tmp_path / program.main).read_bytes() == (tmp_path / "again" / program.main).read_bytes()


def test_static_bias_beyond_int32_and_output_that_is_always_zero(tmp_path: Path) -> None:
    x = torch.randn(20, 16)
    weight = torch.cat([torch.zeros(1, 16), torch.full((1, 16), 1e-6), torch.randn(2, 16)])
    ranges = Range.between(-3, 3), Range.between(-6, 6)
    layer = CodedLinear(encode_affine(weight, 8), torch.tensor([5.0, -5.0, 0.5, 0.0]), ACTIVATION_STATIC, ranges)
    _, session = build(tmp_path, layer, x)
    assert steps_apart(session.run({"x": x.numpy()})["output"], eager(layer, x), layer).max() < 1.01
    silent = CodedLinear(layer.codec, None, ACTIVATION_STATIC, (ranges[0], Range.between(0, 0)))
    program, _ = build(tmp_path, silent, x)
    assert {row.unit for row in program.delegation} == {"cpu:xnnpack"}


def test_static_file_is_as_small_as_its_codes(tmp_path: Path) -> None:
    x = torch.randn(2, 384)
    program, _ = build(tmp_path, static_linear(256, 384, x), x)
    linear = next(w for w in program.weights if w.kind == "linear")
    assert linear.elements == 256 * 384 and linear.bytes <= 0.27 * linear.fp32_bytes


def test_static_int4_is_refused(tmp_path: Path) -> None:
    x = torch.randn(2, 64)
    with pytest.raises(LoweringError, match="static int8 activations.*take int8 weights only") as caught:
        build(tmp_path, static_linear(10, 64, x, bits=4), x)
    assert caught.value.code == "FER-LOW-002"


def test_palettes_are_refused_or_expanded(tmp_path: Path) -> None:
    codec = encode_lookup(torch.randn(32, 20), 4, group=16)
    for layer, x in (
        (CodedLinear(codec, torch.randn(32), ACTIVATION_NONE), torch.randn(3, 20)),
        (CodedEmbedding(codec), torch.tensor([3, 31])),
    ):
        with pytest.raises(LoweringError, match="litert: 4-bit palette indices of .* weights at '0'") as caught:
            build(tmp_path, nn.Sequential(layer), x)
        assert caught.value.code == "FER-LOW-002" and "Core ML" in caught.value.hint
        program, session = build(tmp_path, nn.Sequential(layer), x, expand=True)
        name = program.entry_points["forward"].inputs[0].name
        np.testing.assert_allclose(session.run({name: x.numpy()})["output"], eager(layer, x), atol=1e-5)
        assert any("decoded to float32" in note for note in program.notes)


def test_op_that_the_toolkit_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.erfcx(x)

    with pytest.raises(LoweringError, match=r"aten\.special_erfcx' in layer '0' at .*test_litert\.py:\d+") as caught:
        build(tmp_path, nn.Sequential(Inner()), torch.randn(3))
    assert caught.value.code == "FER-LOW-001"
    assert caught.value.__cause__ is not None


def test_op_that_the_runtime_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    class Sorter(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sort(-1).values

    with pytest.raises(LoweringError, match=r"no op 'STABLEHLO_SORT' at .*test_litert\.py:\d+") as caught:
        build(tmp_path, Sorter(), torch.randn(2, 5))
    assert caught.value.code == "FER-LOW-001" and caught.value.hint


def test_the_compilers_own_errors_are_told_with_op_and_line(tmp_path: Path) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(x).abs()

    with pytest.raises(LoweringError, match=r"fft\w* at .*litert\.py:\d+.*Verification failed: '") as caught:
        build(tmp_path, Spectrum(), torch.randn(2, 16))
    assert caught.value.code == "FER-LOW-001"


def test_an_axis_that_may_not_be_padded_has_a_program_of_the_examples_length(tmp_path: Path) -> None:
    class Total(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.softmax(x, 1).sum(2)

    x = torch.randn(1, 9, 4)
    program, session = build(tmp_path, as_model(Total(), (x,), {"x": {1: Dim("n", 2, 40)}}))
    assert program.entry_points["forward"].buckets == (9, 16, 40)
    assert "no other fits, as 'x' has no padding value" in program.notes[0]
    assert np.allclose(session.run({"x": x.numpy()})["output"], eager(Total(), x), atol=1e-6)
    with pytest.raises(InputError, match="may not be padded"):
        session.run({"x": x[:, :8].numpy()})


def test_two_dynamic_axes_are_refused(tmp_path: Path) -> None:
    entry = EntryPoint(nn.ReLU(), {"input": torch.randn(3, 5)}, {"input": {0: Dim("n", 2, 9), 1: Dim("m", 2, 9)}})
    with pytest.raises(LoweringError, match="2 dynamic axes") as caught:
        lower(capture(Model({"forward": entry}, source="test")), DEVICE, tmp_path)
    assert caught.value.code == "FER-LOW-003"


@pytest.mark.parametrize("in_place", [True, False])
def test_state_is_refused(tmp_path: Path, in_place: bool) -> None:
    class Counter(nn.Module):
        total: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            if in_place:
                self.total.add_(x)
            else:
                self.total = self.total + x
            return self.total * 2

    with pytest.raises(LoweringError, match="total") as caught:
        build(tmp_path, Counter(), torch.randn(3))
    assert caught.value.code == "FER-LOW-004"


def test_an_op_in_place_on_a_temporary_is_no_state(tmp_path: Path) -> None:
    class Scratch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 2).add_(1)

    x = torch.randn(3)
    _, session = build(tmp_path, Scratch(), x)
    np.testing.assert_allclose(session.run({"x": x.numpy()})["output"], (x * 2 + 1).numpy())


@pytest.mark.parametrize(
    ("low", "high", "lengths"),
    [
        (2, 256, (16, 64, 256)),
        (2, 64, (16, 64)),
        (2, 20, (16, 20)),
        (50, 90, (50, 64, 90)),
        (200, 300, (200, 256, 300)),
        (2, 16, (16,)),
        (600, 700, (700,)),
    ],
)
def test_buckets_fit_the_range(low: int, high: int, lengths: tuple[int, ...]) -> None:
    assert bucket_lengths(Dim("n", low, high)) == lengths


TWIN = """
import sys, torch
from pathlib import Path
from ferrule.codec import encode_affine
from ferrule.coded import CodedLinear
from ferrule.converters.litert import lower
from ferrule.device_profiles import load
from ferrule.model import as_model, capture
weight = torch.linspace(-1, 1, 65 * 40).reshape(40, 65).sin()
layers = [CodedLinear(encode_affine(weight, bits, group), None, 1) for bits, group in ((8, 0), (4, 32))]
torch.manual_seed(0)
middle = torch.nn.Linear(40, 65)
model = as_model(torch.nn.Sequential(torch.nn.LayerNorm(65), layers[0], middle, layers[1]), (torch.zeros(2, 65),))
lower(capture(model), load("pixel-9"), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_same_bytes_in_another_process_and_folder(tmp_path: Path) -> None:
    contents = []
    for seed, folder in (("1", tmp_path / "a"), ("22", tmp_path / "b" / "c")):
        folder.mkdir(parents=True)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", TWIN, str(folder)], cwd=folder, env=environment, check=True, capture_output=True
        )
        contents.append((folder / "model.tflite").read_bytes())
    assert contents[0] == contents[1]
    assert str(tmp_path).encode() not in contents[0]


def test_engine_needs_no_torch(tmp_path: Path) -> None:
    program, _ = build(tmp_path, coded_linear(8, 16, "w8a8"), torch.randn(1, 16))
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from ferrule.program import Signature\n"
        "from ferrule.runtime.session import open_program\n"
        f"entry = Signature.from_json({program.entry_points['forward'].to_json()!r})\n"
        f"session = open_program(Path({str(tmp_path / program.main)!r}), 'litert', {{'forward': entry}})\n"
        "assert session.run({'x': np.ones((1, 16), np.float32)})['output'].shape == (1, 8)\n"
        "assert session.engine.name == 'litert' and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("content", [b"", b"no flatbuffer" * 20])
def test_engine_refuses_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        open_program(path, "litert", {})
    assert caught.value.code == "FER-BUN-020"
