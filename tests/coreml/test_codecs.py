"""Palettes and static activations in Core ML: held as they are, run as the coded reference, read back from the file."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferrule.codec import Codec, Lookup, Range, decode, encode_affine, stored_bytes
from ferrule.coded import ACTIVATION_NONE, ACTIVATION_STATIC, CodedEmbedding, CodedLinear
from ferrule.converters.coreml.codecs import half_scale
from ferrule.converters.coreml.lower import lower
from ferrule.converters.coreml.mil import MilFunction, MilOp, load
from ferrule.device_profiles import DeviceProfile
from ferrule.device_profiles import load as load_device
from ferrule.errors import DeviceError, LoweringError
from ferrule.model import Dim, EntryPoint, Model, as_model, capture
from ferrule.palette import encode_lookup
from ferrule.program import Program
from ferrule.runtime.session import Session, open_program

DEVICE = load_device("iphone-15-pro")
Built = tuple[Program, Session]
FINE = (Range(2.0**-5, 3), Range(2.0**-5, -7))
POSITIVE = (Range(2.0**-5, -128), Range(2.0**-4, -128))


def matrix(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) / columns**0.5


def palettes(rows: int, columns: int, bits: int, group: int, scaled: bool) -> Lookup:
    return encode_lookup(matrix(rows, columns), bits, group, scaled)


class OddMlp(nn.Module):
    """67 -> 130 -> 5 in palettes: groups of rows that need not be powers of two, one layer without bias."""

    def __init__(self, bits: int, group: int, scaled: bool) -> None:
        super().__init__()
        self.up = CodedLinear(palettes(130, 67, bits, group, scaled), torch.linspace(-1, 1, 130), ACTIVATION_NONE)
        self.down = CodedLinear(palettes(5, 130, bits, group, scaled), None, ACTIVATION_NONE)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(nn.functional.gelu(self.up(x)))
        return y


class Words(nn.Module):
    """Ids to one vector: an embedding and a layer in palettes."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self.table = CodedEmbedding(palettes(102, 33, 4, 17, scaled))
        self.mix = CodedLinear(palettes(32, 33, 3, 8, scaled), torch.linspace(-1, 1, 32), ACTIVATION_NONE)

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.mix(self.table(ids))
        return y


def static(codec: Codec, ranges: tuple[Range, Range] = FINE, bias: bool = True) -> CodedLinear:
    shift = torch.linspace(-1, 1, len(codec.codes)) if bias else None
    return CodedLinear(codec, shift, ACTIVATION_STATIC, ranges)


def words_model(scaled: bool) -> Model:
    ids = (torch.arange(8) * 7 % 101).view(1, 8)
    entry = EntryPoint(Words(scaled).eval(), {"ids": ids}, {"ids": {1: Dim("tokens", 2, 40)}}, {"ids": 0})
    return Model({"forward": entry}, source="test")


def build(folder: Path, model: Model | nn.Module, *inputs: Tensor, device: DeviceProfile = DEVICE) -> Built:
    program = lower(capture(as_model(model, inputs or None)), device, folder)
    return program, open_program(folder / program.main, "coreml", program.entry_points)


def cosine(a: Any, b: Any) -> float:
    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def eager(module: nn.Module, *inputs: Tensor) -> Any:
    with torch.no_grad():
        return module(*inputs)


def ops_of(folder: Path, kind: str, function: str = "main") -> list[MilOp]:
    return [op for op in load(folder / "model.mlpackage").functions[function].ops if op.kind == kind]


def held(function: MilFunction, op: MilOp, param: str) -> Any:
    (operand,) = op.params[param]
    if isinstance(operand, str):
        operand = next(o for o in function.ops if o.outputs[0].name == operand).params["val"][0]
        assert not isinstance(operand, str)
    return operand.decode()


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("group", [0, 16, 7])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_palettes_run_as_the_coded_reference(tmp_path: Path, bits: int, group: int, scaled: bool) -> None:
    module = OddMlp(bits, group, scaled).eval()
    x = torch.randn(3, 67, generator=torch.Generator().manual_seed(1))
    _, session = build(tmp_path, module, x)
    assert cosine(session.run({"x": x.numpy()})["output"], eager(module, x)) > 0.99999
    function = load(tmp_path / "model.mlpackage").functions["main"]
    for op, layer in zip(ops_of(tmp_path, "constexpr_lut_to_dense"), (module.up, module.down), strict=True):
        codec = layer.codec
        assert isinstance(codec, Lookup)
        assert np.array_equal(held(function, op, "indices"), codec.codes.numpy())
        assert np.array_equal(held(function, op, "lut")[:, 0, :, 0].astype(np.float32), codec.table.numpy())
    assert len(ops_of(tmp_path, "mul")) == (2 if scaled else 0)


@pytest.mark.parametrize("shape", [(1, 4, 67), (2, 3, 2, 67)])
def test_inputs_of_every_rank(tmp_path: Path, shape: tuple[int, ...]) -> None:
    module, x = OddMlp(4, 16, True).eval(), torch.randn(shape)
    _, session = build(tmp_path, module, x)
    out = session.run({"x": x.numpy()})["output"]
    assert out.shape == (*shape[:-1], 5) and cosine(out, eager(module, x)) > 0.99999


@pytest.mark.parametrize(("bits", "ratio"), [(1, 0.05), (2, 0.08), (3, 0.11), (4, 0.14), (6, 0.21)])
def test_the_file_holds_indices_palettes_and_scales_alone(tmp_path: Path, bits: int, ratio: float) -> None:
    codec = palettes(256, 320, bits, 64, True)
    program, _ = build(tmp_path, CodedLinear(codec, None, ACTIVATION_NONE), torch.randn(1, 320))
    linear = next(w for w in program.weights if w.kind == "linear")
    file = tmp_path / "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    assert (linear.elements, linear.bytes) == (256 * 320, stored_bytes(codec))
    assert linear.bytes <= ratio * linear.fp32_bytes
    assert linear.bytes <= file.stat().st_size <= linear.bytes + 4096


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
def test_embeddings_in_buckets_share_their_palettes(tmp_path: Path, scaled: bool) -> None:
    program, session = build(tmp_path, words_model(scaled))
    module = Words(scaled).eval()
    sizes = {w.kind: (w.elements, w.bytes) for w in program.weights}
    assert program.entry_points["forward"].buckets == (16, 40)
    assert sizes["embedding"] == (102 * 33, stored_bytes(module.table.codec))
    assert sizes["linear"] == (32 * 33, stored_bytes(module.mix.codec))
    assert len(ops_of(tmp_path, "constexpr_lut_to_dense", "forward_40")) == 2
    for length in (2, 16, 33):
        ids = (torch.arange(length) * 5 % 102).view(1, length)
        assert cosine(session.run({"ids": ids.numpy()})["output"], eager(module, ids)) > 0.99999


def test_palettes_are_noted(tmp_path: Path) -> None:
    program, _ = build(tmp_path, OddMlp(4, 0, False).eval(), torch.randn(1, 67))
    assert any("check this package on the device" in note for note in program.notes)


@pytest.mark.parametrize(
    ("codec", "ranges"),
    [
        (encode_affine(matrix(130, 67), 8), FINE),
        (encode_affine(matrix(130, 67), 8), POSITIVE),
        (encode_affine(matrix(130, 67), 4, 32), FINE),
        (palettes(130, 67, 4, 10, True), FINE),
    ],
    ids=["w8", "unsigned", "w4g32", "lut4"],
)
def test_static_activations_round_where_the_reference_does(
    tmp_path: Path, codec: Codec, ranges: tuple[Range, Range]
) -> None:
    module = static(codec, ranges).eval()
    x = (torch.randn(20, 67, generator=torch.Generator().manual_seed(4)) * 2).half().float()  # some beyond the range
    program, session = build(tmp_path, module, x)
    steps = (session.run({"x": x.numpy()})["output"] - eager(module, x).numpy()) / ranges[1].scale
    assert np.array_equal(steps, steps.round())  # an output is a code times the scale
    assert abs(steps).max() <= 1 and (steps == 0).mean() > 0.97  # float16 tips a few that lie between two codes
    assert [op.outputs[0].type.dtype for op in ops_of(tmp_path, "quantize")] == [
        "uint8" if ranges is POSITIVE else "int8"
    ] * 2
    assert next(w for w in program.weights if w.kind == "linear").elements == 130 * 67
    assert {row.unit for row in program.delegation if row.op == "quantize"} == {"ane|gpu|cpu"}


def test_chains_of_static_layers_keep_their_pairs(tmp_path: Path) -> None:
    first, second = static(encode_affine(matrix(64, 33), 8)), static(encode_affine(matrix(9, 64), 8), bias=False)
    module = nn.Sequential(first, nn.ReLU(), second).eval()
    x = torch.randn(4, 33, generator=torch.Generator().manual_seed(5))
    _, session = build(tmp_path, module, x)
    assert cosine(session.run({"input": x.numpy()})["output"], eager(module, x)) > 0.999
    kinds = [op.kind for op in load(tmp_path / "model.mlpackage").functions["main"].ops]
    assert kinds.count("quantize") == kinds.count("dequantize") == 4
    assert kinds.count("constexpr_blockwise_shift_scale") == kinds.count("linear") == 2


@pytest.mark.parametrize(
    ("device", "word"), [("iphone-15-pro", "can multiply in int8"), ("iphone-13", "multiplies in float16")]
)
def test_a_note_says_whether_the_device_multiplies_in_int8(tmp_path: Path, device: str, word: str) -> None:
    layer = static(encode_affine(matrix(5, 8), 8))
    program, _ = build(tmp_path, layer, torch.randn(1, 8), device=load_device(device))
    assert any(word in note for note in program.notes)
    assert not any("rounded to float16" in note for note in program.notes)


def test_scales_that_float16_lacks_are_rounded_and_noted(tmp_path: Path) -> None:
    ranges = (Range(0.03, 0), Range(1e-6, 0))
    program, _ = build(tmp_path, static(encode_affine(matrix(5, 8), 8), ranges), torch.randn(1, 8))
    assert any(note.startswith("2 scales of static activations were rounded") for note in program.notes)
    assert half_scale(1e-6) == 2.0**-14 and half_scale(1e9) == 65504.0 and half_scale(0.25) == 0.25


def test_palettes_that_do_not_divide_the_rows_are_refused(tmp_path: Path) -> None:
    three = replace(palettes(9, 9, 2, 3, False), codes=torch.zeros(10, 9, dtype=torch.uint8), scales=torch.ones(10, 1))
    with pytest.raises(LoweringError, match="3 palettes for 10 rows") as caught:
        build(tmp_path, CodedLinear(three, None, ACTIVATION_NONE), torch.randn(1, 9))
    assert caught.value.code == "FER-LOW-002"


def test_bits_that_palettes_lack_are_refused_or_expanded(tmp_path: Path) -> None:
    layer = CodedLinear(encode_lookup(matrix(8, 16), 5), None, ACTIVATION_NONE)
    x = torch.randn(2, 16)
    graphs = capture(as_model(layer, (x,)))
    with pytest.raises(LoweringError, match="5-bit palettes") as caught:
        lower(graphs, DEVICE, tmp_path)
    assert caught.value.code == "FER-LOW-002"
    program = lower(graphs, DEVICE, tmp_path, expand=True)
    out = open_program(tmp_path / program.main, "coreml", program.entry_points).run({"x": x.numpy()})["output"]
    assert cosine(out, x @ decode(layer.codec).T) > 0.9999
    assert any("5-bit palettes" in note and "decoded" in note for note in program.notes)


def test_a_device_that_takes_no_palettes_is_refused(tmp_path: Path) -> None:
    support = DEVICE.targets["coreml"]
    form = support.formats["palette-group"]
    poor = replace(form, accepted=replace(form.accepted, value=False, reason="Not in this test."))
    targets = {**DEVICE.targets, "coreml": replace(support, formats={**support.formats, "palette-group": poor})}
    graphs = capture(as_model(OddMlp(4, 13, False).eval(), (torch.randn(1, 67),)))
    with pytest.raises(DeviceError, match="palette-group"):
        lower(graphs, replace(DEVICE, targets=targets), tmp_path)


SCRIPT = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_codecs import DEVICE, FINE, capture, encode_affine, lower, matrix, static, words_model
from ferrule.model import EntryPoint
import torch
folder = Path(sys.argv[2]); folder.mkdir(parents=True)
model = words_model(True)
layer = static(encode_affine(matrix(65, 67), 8))
model.entry_points["plain"] = EntryPoint(layer, {"x": torch.ones(2, 67)})
lower(capture(model), DEVICE, folder)
"""


@pytest.mark.slow
def test_the_same_bytes_in_another_process_and_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "some" / "where" / "else"]
    for seed, folder in enumerate(folders):
        command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": str(seed)}, check=True, capture_output=True)
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert len(files[0]) == 3 and files[0] == files[1]
