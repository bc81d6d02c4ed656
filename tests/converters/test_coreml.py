"""The coreml target: small models lowered, run by the MIL interpreter, and the package read back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferrule.codec import Affine, encode_affine
from ferrule.coded import ACTIVATION_DYNAMIC, ACTIVATION_NONE, CodedEmbedding, CodedLinear
from ferrule.converters.buckets import BUCKETS
from ferrule.converters.coreml.checks import bound_constants, check_declared
from ferrule.converters.coreml.constants import Inline, TensorType
from ferrule.converters.coreml.interpreter import list_misdeclared
from ferrule.converters.coreml.lower import lower, static_lengths
from ferrule.converters.coreml.mil import MilFunction, MilInput, MilOp, MilProgram, MilValue, Operand
from ferrule.converters.coreml.mil import load as read_package
from ferrule.device_profiles import load
from ferrule.errors import DeviceError, LoweringError
from ferrule.model import Dim, EntryPoint, Model, as_model, capture
from ferrule.program import Program, Signature, TensorSpec
from ferrule.runtime.session import Session, open_program

DEVICE = load("iphone-15-pro")
CODECS = {
    # name: bits, group, activation, cosine to the coded reference at least
    "w8": (8, 0, ACTIVATION_NONE, 0.99999),
    "w8a8": (8, 0, ACTIVATION_DYNAMIC, 0.999),
    "w8g32": (8, 32, ACTIVATION_NONE, 0.99999),
    "w4": (4, 0, ACTIVATION_NONE, 0.99999),
    "w4g32": (4, 32, ACTIVATION_NONE, 0.99999),
}
TOKENS = Dim("tokens", 2, 40)


def affine(rows: int, columns: int, codec: str) -> Affine:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) / columns**0.5
    bits, group, _, _ = CODECS[codec]
    return encode_affine(weight, bits, group)


def coded(rows: int, columns: int, codec: str, bias: bool = True) -> CodedLinear:
    return CodedLinear(affine(rows, columns, codec), torch.linspace(-1, 1, rows) if bias else None, CODECS[codec][2])


class OddMlp(nn.Module):
    """67 -> 130 -> 5: columns that are no multiple of 32, one layer without bias."""

    def __init__(self, codec: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(67)
        self.up = coded(130, 67, codec)
        self.down = coded(5, 130, codec, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(nn.functional.gelu(self.up(self.norm(x))))
        return y


class Encoder(nn.Module):
    """Tokens under a mask to one unit vector: embedding, a masked mean, a coded layer."""

    def __init__(self, codec: str = "w8") -> None:
        super().__init__()
        self.table = CodedEmbedding(affine(101, 33, codec))
        self.mix = coded(33, 33, codec)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        weight = mask.unsqueeze(-1).float()
        scores = self.mix(self.table(ids)) + (1.0 - weight) * -1e4
        mean = (torch.softmax(scores, 1) * weight).sum(1) / weight.sum(1)
        return nn.functional.normalize(mean, dim=-1)


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.SiLU(), nn.Conv2d(8, 12, 1))
        self.head = coded(7, 12, "w8")

    def forward(self, image: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.stem(image)).mean((2, 3)))
        return y


def encoder_model(padding: dict[str, float], codec: str = "w8") -> Model:
    ids = (torch.arange(8) * 7 % 101).view(1, 8)
    entry = EntryPoint(
        Encoder(codec).eval(),
        {"ids": ids, "mask": torch.ones(1, 8, dtype=torch.long)},
        {"ids": {1: TOKENS}, "mask": {1: TOKENS}},
        padding,
    )
    return Model({"forward": entry}, source="test")


def build(folder: Path, model: Model | nn.Module, *inputs: Tensor, expand: bool = False) -> tuple[Program, Session]:
    program = lower(capture(as_model(model, inputs or None)), DEVICE, folder, expand)
    return program, open_program(folder / program.main, "coreml", program.entry_points)


def cosine(a: Any, b: Any) -> float:
    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def eager(module: nn.Module, *inputs: Tensor) -> Any:
    with torch.no_grad():
        return module(*inputs)


def weight_of(function: MilFunction, op: MilOp) -> MilOp:
    (name,) = op.params["weight" if op.kind == "linear" else "x"]
    return next(maker for maker in function.ops if name in {value.name for value in maker.outputs})


def decoded(function: MilFunction, maker: MilOp, param: str) -> Any:
    (operand,) = maker.params[param]
    if isinstance(operand, str):
        operand = next(o for o in function.ops if o.outputs[0].name == operand).params["val"][0]
        assert not isinstance(operand, str)
    return operand.decode()


@pytest.mark.parametrize(
    ("codec", "shape"),
    [("w8", (3, 67)), ("w8a8", (1, 4, 67)), ("w8g32", (3, 67)), ("w4", (2, 67)), ("w4g32", (2, 3, 2, 67))],
)
def test_each_codec_runs_as_the_coded_reference(tmp_path: Path, codec: str, shape: tuple[int, ...]) -> None:
    module = OddMlp(codec).eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    program, session = build(tmp_path, module, x)
    out = session.run({"x": x.numpy()})["output"]
    assert session.engine.name == "coreml-reference"
    assert (out.dtype, out.shape) == (np.float32, (*shape[:-1], 5))
    assert cosine(out, eager(module, x)) > CODECS[codec][3]
    assert any("Activations stay in float16" in note for note in program.notes) == (codec == "w8a8")


@pytest.mark.parametrize("codec", ["w8", "w4", "w4g32"])
def test_the_package_holds_our_codes_and_scales(tmp_path: Path, codec: str) -> None:
    module = OddMlp(codec).eval()
    build(tmp_path, module, torch.randn(2, 67))
    function = read_package(tmp_path / "model.mlpackage").functions["main"]
    layers = [op for op in function.ops if op.kind == "linear"]
    for op, layer in zip(layers, (module.up, module.down), strict=True):
        maker = weight_of(function, op)
        codes, scales = decoded(function, maker, "data"), decoded(function, maker, "scale")
        columns = layer.codes.shape[1]
        assert maker.kind == "constexpr_blockwise_shift_scale"
        assert np.array_equal(codes[:, :columns], layer.codes.numpy()) and not codes[:, columns:].any()
        assert np.array_equal(scales.astype(np.float32), layer.scales.numpy())


@pytest.mark.parametrize(("codec", "ratio"), [("w8", 0.27), ("w4g32", 0.16)])
def test_sizes_show_in_the_file(tmp_path: Path, codec: str, ratio: float) -> None:
    program, _ = build(tmp_path, nn.Sequential(coded(256, 320, codec), coded(64, 256, codec)), torch.randn(1, 320))
    linear = next(w for w in program.weights if w.kind == "linear")
    file = tmp_path / "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    assert linear.elements == 256 * 320 + 64 * 256
    assert linear.bytes <= ratio * linear.fp32_bytes
    assert linear.bytes <= file.stat().st_size <= linear.bytes + 4096


def test_filling_is_not_counted_as_elements(tmp_path: Path) -> None:
    program, _ = build(tmp_path, OddMlp("w4g32").eval(), torch.randn(2, 67))
    assert next(w for w in program.weights if w.kind == "linear").elements == 67 * 130 + 130 * 5


def test_convnet(tmp_path: Path) -> None:
    module, image = Conv().eval(), torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    program, session = build(tmp_path, module, image)
    assert cosine(session.run({"image": image.numpy()})["output"], eager(module, image)) > 0.9999
    assert {w.kind for w in program.weights} == {"linear", "other"}


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, Session, Path]:
    folder = tmp_path_factory.mktemp("buckets")
    return (*build(folder, encoder_model({"ids": 0, "mask": 0}, "w4g32")), folder)


def test_padded_axes_become_functions_that_share_weights(bucketed: tuple[Program, Session, Path]) -> None:
    program, session, folder = bucketed
    package = read_package(folder / program.main)
    table = next(w for w in program.weights if w.kind == "embedding")
    assert program.entry_points["forward"].buckets == (16, 40)
    assert set(package.functions) == {"forward_16", "forward_40"}
    assert table.elements == 101 * 64  # filled to whole groups of 32
    for length in (2, 9, 32, 33, 40):
        ids = (torch.arange(length) * 5 % 101).view(1, length)
        mask = torch.ones(1, length, dtype=torch.long)
        out = session.run({"ids": ids.numpy(), "mask": mask.numpy()})["output"]
        assert cosine(out, eager(Encoder("w4g32"), ids, mask)) > 0.9999


def test_delegation_lists_every_op_with_a_reason(bucketed: tuple[Program, Session, Path]) -> None:
    program, _, folder = bucketed
    functions = read_package(folder / program.main).functions.values()
    ops = [op.kind for function in functions for op in function.ops if op.kind != "const"]
    rows = program.delegation
    assert sum(row.count for row in rows) == len(ops) and {row.op for row in rows} == set(ops)
    assert all(row.basis == "predicted" and row.reason for row in rows)
    assert {row.unit for row in rows if row.op in ("linear", "softmax")} == {"ane|gpu|cpu"}
    assert {row.unit for row in rows if row.op == "gather"} == {"cpu|gpu"}


def test_axes_that_may_not_be_padded_stay_a_range(tmp_path: Path) -> None:
    program, session = build(tmp_path, encoder_model({}))
    function = read_package(tmp_path / program.main).functions["main"]
    assert program.entry_points["forward"].buckets == ()
    assert {value.ranges for value in function.inputs} == {((1, 1), (2, 40))}
    assert any("range of lengths" in note for note in program.notes)
    assert any("default length only" in row.reason for row in program.delegation)
    for length in (2, 11, 40):
        ids = (torch.arange(length) * 3 % 101).view(1, length)
        mask = (torch.arange(length) < max(length - 3, 1)).long().view(1, length)
        out = session.run({"ids": ids.numpy(), "mask": mask.numpy()})["output"]
        assert cosine(out, eager(Encoder(), ids, mask)) > 0.9999


def test_bucket_lengths_are_clipped_to_the_axis() -> None:
    spec = TensorSpec("ids", "int64", (1, "n"))
    wide = Signature((spec,), (), {"n": Dim("n", 2, 4096)}, {"ids": 0})
    assert static_lengths(wide) == BUCKETS
    assert static_lengths(replace(wide, dims={"n": Dim("n", 2, 100)})) == (16, 64, 100)
    assert static_lengths(replace(wide, dims={"n": Dim("n", 300, 400)})) == (300, 400)
    assert static_lengths(replace(wide, padding={})) == ()


def test_several_entry_points_share_their_weights(tmp_path: Path) -> None:
    layer = coded(320, 256, "w8")
    entry = {"prefill": EntryPoint(layer, {"x": torch.randn(4, 256)})}
    entry["decode"] = EntryPoint(layer, {"x": torch.randn(1, 256)})
    program, session = build(tmp_path, Model(entry, source="test"))
    assert [w.elements for w in program.weights if w.kind == "linear"] == [320 * 256]
    assert (tmp_path / "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin").stat().st_size < 90_000
    for name, rows in (("prefill", 4), ("decode", 1)):
        x = torch.randn(rows, 256)
        assert cosine(session.run({"x": x.numpy()}, name)["output"], eager(layer, x)) > 0.99999


def test_states_live_between_calls(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(1, 4))

        def forward(self, x: Tensor) -> Tensor:
            self.total.add_(x)
            return self.total * 2

    # Named outputs: without them the capture runs the module once, which would move its buffer.
    entry = EntryPoint(Sum(), {"x": torch.ones(1, 4)}, outputs=("output",))
    _, session = build(tmp_path, Model({"forward": entry}, source="test"))
    outs = [session.run({"x": np.ones((1, 4), np.float32)})["output"][0, 0] for _ in range(3)]
    assert outs == [2, 4, 6]


class Masked(nn.Module):
    """Attention with the mask that transformers makes; float16 holds no -3.4e38."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        scores = x @ x.transpose(1, 2) + (1.0 - mask[:, None].float()) * torch.finfo(torch.float32).min
        return torch.softmax(scores, -1) @ x


def test_masks_beyond_float16_do_not_become_nan(tmp_path: Path) -> None:
    x, mask = torch.randn(1, 6, 16), torch.tensor([[1, 1, 1, 1, 0, 0]])
    program, session = build(tmp_path, Masked(), x, mask)
    out = session.run({"x": x.numpy(), "mask": mask.numpy()})["output"]
    assert cosine(out, eager(Masked(), x, mask)) > 0.9999
    assert any("float16's range" in note for note in program.notes)


class Chooser(nn.Module):
    """Choices whose branches are scalars, rows or flags: none has the shape of its condition."""

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        keep = mask.bool()
        pairs = keep[:, None, :] & keep[:, :, None]
        softened = torch.softmax(x @ x.transpose(1, 2) + torch.where(pairs, 0.0, float("-inf")), -1)
        rows = torch.where(pairs, x[:, :1, :1], x[:, :1, 1:2] * 2)
        flags = torch.where(pairs, x[:, :1, :1] > 0, x[:, :1, 1:2] > 0)
        return torch.nan_to_num(softened), rows, flags.float(), torch.where(keep, 7, -3)


def chooser_model(padding: dict[str, float]) -> Model:
    inputs = {"x": torch.randn(1, 8, 4), "mask": torch.ones(1, 8, dtype=torch.long)}
    axes = {"x": {1: TOKENS}, "mask": {1: TOKENS}}
    names = ("softened", "rows", "flags", "numbers")
    return Model({"forward": EntryPoint(Chooser(), inputs, axes, padding, names)}, source="test")


def test_the_end_of_a_slice_is_no_number_to_be_brought_into_range() -> None:
    class Rotate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([-x[..., 4:], x[..., :4]], -1) * 1e9

    program = capture(as_model(Rotate(), (torch.randn(1, 8),)))["forward"].program
    bound_constants(program)
    x = torch.randn(1, 8)
    assert torch.equal(program.module()(x), torch.cat([-x[..., 4:], x[..., :4]], -1) * 65504.0)


@pytest.mark.parametrize("padding", [{}, {"x": 0, "mask": 0}], ids=["range", "buckets"])
def test_choices_declare_the_shape_of_their_condition(tmp_path: Path, padding: dict[str, float]) -> None:
    program, session = build(tmp_path, chooser_model(padding))
    package = read_package(tmp_path / program.main)
    assert "select" in {op.kind for function in package.functions.values() for op in function.ops}
    assert [found for name in package.functions for found in list_misdeclared(package, name)] == []
    for length in (16, 40) if padding else (2, 11):
        x = torch.randn(1, length, 4, generator=torch.Generator().manual_seed(length))
        mask = (torch.arange(length) % 3 != 1).long().view(1, length)
        outs = session.run({"x": x.numpy(), "mask": mask.numpy()})
        for out, want in zip(outs.values(), eager(Chooser(), x, mask), strict=True):
            assert np.allclose(out, want.numpy(), atol=4e-3)


def test_a_program_that_declares_a_wrong_shape_is_refused() -> None:
    cond, scalar, full = (
        MilInput("cond", TensorType("bool", (2, 3))),
        TensorType("fp16", ()),
        TensorType("fp16", (2, 3)),
    )

    def program(declared: TensorType) -> MilProgram:
        made = MilValue("chosen", declared)
        params: dict[str, tuple[Operand, ...]] = {
            "cond": ("cond",),
            "a": (Inline(scalar, 1),),
            "b": (Inline(scalar, 0),),
        }
        function = MilFunction("main", "CoreML8", (cond,), (), (made,), (MilOp("select", "chosen", params, (made,)),))
        return MilProgram(Path("wrong.mlpackage"), 9, {"main": function})

    check_declared([program(full)])
    message = refused(LoweringError, "FER-LOW-001", lambda: check_declared([program(full), program(scalar)]))
    assert "'chosen' of 'main': select by cond of bool[2, 3] declares fp16[]" in message


def test_booleans_integers_and_scalars_cross_the_boundary(tmp_path: Path) -> None:
    class Mixed(nn.Module):
        def forward(self, x: Tensor, flag: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return torch.where(flag, x, -x) * t, x > 0, x.argmax(-1)

    inputs = (torch.randn(2, 3), torch.tensor([[True, False, True]] * 2), torch.tensor(2.5))
    program, session = build(tmp_path, Mixed(), *inputs)
    names = [spec.name for spec in program.entry_points["forward"].inputs]
    outs = session.run({n: v.numpy() for n, v in zip(names, inputs, strict=True)})
    for out, want in zip(outs.values(), eager(Mixed(), *inputs), strict=True):
        assert np.allclose(out, want.numpy(), atol=2e-3)
    assert [o.dtype for o in outs.values()] == [np.float32, np.bool_, np.int32]


def test_pooling_where_channels_come_last(tmp_path: Path) -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), 1).flatten(1)

    x = torch.randn(1, 5, 6, 8)
    _, session = build(tmp_path, Pool(), x)
    assert np.allclose(session.run({"x": x.numpy()})["output"], eager(Pool(), x), atol=2e-3)
    session.close()


def test_a_name_that_core_ml_keeps_for_itself_is_refused(tmp_path: Path) -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"any": x + 1, "all": x * 2}

    assert "'any'" in refused(LoweringError, "FER-LOW-001", lambda: build(tmp_path, Both(), torch.ones(2)))


def test_an_input_handed_through_is_refused(tmp_path: Path) -> None:
    class Through(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x + 1

    assert "'x'" in refused(LoweringError, "FER-LOW-001", lambda: build(tmp_path, Through(), torch.ones(2)))


def refused(kind: type[Exception], code: str, call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert getattr(caught.value, "code", "") == code
    return str(caught.value)


def test_a_device_without_core_ml_is_refused(tmp_path: Path) -> None:
    graphs = capture(as_model(OddMlp("w8").eval(), (torch.randn(1, 67),)))
    assert "Android" in refused(DeviceError, "FER-DEV-002", lambda: lower(graphs, load("pixel-9"), tmp_path))


def test_a_system_too_old_is_refused(tmp_path: Path) -> None:
    graphs = capture(as_model(OddMlp("w8").eval(), (torch.randn(1, 67),)))
    facts = {**DEVICE.facts, "os_assumed": replace(DEVICE.facts["os_assumed"], value="17.4")}
    old = replace(DEVICE, facts=facts)
    assert "needs iOS 18" in refused(DeviceError, "FER-DEV-002", lambda: lower(graphs, old, tmp_path))


def test_a_codec_that_core_ml_lacks_is_refused_or_expanded(tmp_path: Path) -> None:
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(3))
    layer = CodedLinear(encode_affine(weight, 3), None, ACTIVATION_NONE)
    x = torch.randn(2, 16)
    message = refused(LoweringError, "FER-LOW-002", lambda: build(tmp_path, layer, x))
    assert "3-bit" in message and "coreml" in message and "w8" in message
    program, session = build(tmp_path, layer, x, expand=True)
    assert any("decoded to float16" in note for note in program.notes)
    assert cosine(session.run({"x": x.numpy()})["output"], eager(layer, x)) > 0.9999


def test_an_op_that_core_ml_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.i0e(x) + torch.igamma(x, x)

    message = refused(LoweringError, "FER-LOW-001", lambda: build(tmp_path, Odd(), torch.rand(2, 3)))
    assert "igamma" in message and "test_coreml.py:" in message


def test_a_buffer_that_no_state_can_be_is_refused(tmp_path: Path) -> None:
    class Count(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            self.total.add_(x)
            return self.total * 2

    assert "'total'" in refused(LoweringError, "FER-LOW-004", lambda: build(tmp_path, Count(), torch.ones(4)))


SCRIPT = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_coreml import DEVICE, capture, encoder_model, lower
Path(sys.argv[2]).mkdir(parents=True)
lower(capture(encoder_model({"ids": 0, "mask": 0}, "w4g32")), DEVICE, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_same_bytes_in_another_process_and_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "some" / "where" / "else"]
    for seed, folder in enumerate(folders):
        command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": str(seed)}, check=True, capture_output=True)
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert len(files[0]) == 3 and files[0] == files[1]


def test_nothing_in_the_package_tells_when_or_where_it_was_built(bucketed: tuple[Program, Session, Path]) -> None:
    folder = bucketed[2] / "model.mlpackage"
    manifest = json.loads((folder / "Manifest.json").read_text())
    assert sorted(item["path"] for item in manifest["itemInfoEntries"].values()) == [
        "com.apple.CoreML/model.mlmodel",
        "com.apple.CoreML/weights",
    ]
    for file in folder.rglob("*.mlmodel"):
        data = file.read_bytes()
        assert b"conversion_date" not in data and str(Path(__file__).parent).encode() not in data
