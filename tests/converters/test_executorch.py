"""Target executorch: small models run in ExecuTorch's own runtime and agree with the coded eager model."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("executorch")
torch = pytest.importorskip("torch")

from ferrule.codec import Range, encode_affine  # noqa: E402
from ferrule.coded import ACTIVATION_STATIC, CodedEmbedding, CodedLinear  # noqa: E402
from ferrule.converters.executorch import lower  # noqa: E402
from ferrule.converters.pte import read_pte  # noqa: E402
from ferrule.device_profiles import load  # noqa: E402
from ferrule.errors import BundleError, LoweringError  # noqa: E402
from ferrule.model import Dim, EntryPoint, Model, as_model, capture  # noqa: E402
from ferrule.palette import encode_lookup  # noqa: E402
from ferrule.program import Program  # noqa: E402
from ferrule.runtime.session import Session, open_program  # noqa: E402

nn, functional = torch.nn, torch.nn.functional

pytestmark = pytest.mark.filterwarnings("ignore")


class Mlp(nn.Module):
    """Two coded layers of odd sizes."""

    def __init__(self, bits: int, group: int, activation: int, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = _coded(51, 70, bits, group, activation, bias)
        self.second = _coded(70, 33, bits, group, activation, bias)

    def forward(self, x: Any) -> Any:
        return self.second(functional.gelu(self.first(x)))


class Encoder(nn.Module):
    """Embedding, layer norm, attention, GELU by tanh: what the rewrites are for."""

    def __init__(self, causal: bool, mask: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.embedding = CodedEmbedding(encode_affine(torch.randn(40, 32), 8))
        self.norm = nn.LayerNorm(32)
        self.qkv = _coded(32, 96, 8, 0, 1, True)
        self.causal, self.mask = causal, mask

    def forward(self, ids: Any, keep: Any) -> Any:
        batch, length = ids.shape
        x = self.norm(self.embedding(ids))
        q, k, v = self.qkv(x).view(batch, length, 3, 4, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mask = (1.0 - keep[:, None, None, :].to(torch.float32)) * -1e4 if self.mask else None
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=self.causal)
        return functional.gelu(y.transpose(1, 2).reshape(batch, length, 32), approximate="tanh")


class Convnet(nn.Module):
    """Convolutions with batch norm, pooled, then a coded classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.depth, self.point = nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 16, 1)
        self.head = _coded(16, 10, 8, 0, 1, True)

    def forward(self, x: Any) -> Any:
        x = functional.hardswish(self.point(functional.relu(self.depth(self.norm(self.stem(x))))))
        return self.head(x.mean((2, 3)))


class BoolMask(nn.Module):
    """Attention whose mask is boolean and closes a row wholly: torch returns zeros there."""

    def forward(self, x: Any) -> Any:
        opens = torch.arange(5)[None] < torch.arange(5)[:, None]
        return functional.scaled_dot_product_attention(x, x, x, attn_mask=opens)


class Bessel(nn.Module):
    """An op that ExecuTorch has no kernel for."""

    def forward(self, x: Any) -> Any:
        return torch.special.bessel_j0(x)


def _coded(inputs: int, outputs: int, bits: int, group: int, activation: int, bias: bool) -> CodedLinear:
    weight = torch.randn(outputs, inputs) / inputs**0.5
    return CodedLinear(encode_affine(weight, bits, group), torch.randn(outputs) if bias else None, activation)


def _lower(model: Model, folder: Path, expand: bool = False) -> Program:
    return lower(capture(model), load("galaxy-s24"), folder, expand)


def _session(program: Program, folder: Path) -> Session:
    return open_program(folder / program.main, "executorch", program.entry_points)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def _check(module: Any, inputs: Mapping[str, Any], folder: Path, model: Model | None = None) -> Program:
    """Lower, run on the inputs, compare with eager; the program is returned."""
    program = _lower(model or as_model(module.eval(), inputs), folder)
    with _session(program, folder) as session:
        (y,) = session.run({name: value.numpy() for name, value in inputs.items()}).values()
    expected = module(**inputs).detach().numpy()
    assert y.shape == expected.shape
    assert _cosine(y, expected) > 0.9999
    return program


def _bytes(program: Program, kind: str) -> int:
    return sum(w.bytes for w in program.weights if w.kind == kind)


def _portable(program: Program) -> set[str]:
    return {row.op for row in program.delegation if row.unit == "cpu:portable"}


@pytest.mark.parametrize(
    ("bits", "group", "activation", "size"),
    [
        (8, 0, 0, 51 * 70 + 70 * 33 + 4 * 103),
        (8, 0, 1, 51 * 70 + 70 * 33 + 4 * 103),
        (4, 0, 0, 26 * 70 + 35 * 33 + 4 * 103),
        (4, 0, 1, 26 * 70 + 35 * 33 + 4 * 103),
        (4, 32, 1, 32 * 70 + 48 * 33 + 2 * (2 * 70 + 3 * 33)),
    ],
)
@pytest.mark.parametrize("shape", [(3, 51), (2, 3, 51)])
def test_codecs_native(
    bits: int, group: int, activation: int, size: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    module = Mlp(bits, group, activation, bias=len(shape) == 2)
    program = _check(module, {"x": torch.randn(*shape)}, tmp_path)
    assert _bytes(program, "linear") == size
    assert not _portable(program)
    assert sum(row.count for row in program.delegation if row.op == "aten.linear") == 2


def test_weight_only_int8_is_exact(tmp_path: Path) -> None:
    module, x = Mlp(8, 0, 0), torch.randn(4, 51)
    program = _lower(as_model(module, (x,)), tmp_path)
    with _session(program, tmp_path) as session:
        np.testing.assert_allclose(session.run({"x": x.numpy()})["output"], module(x).numpy(), atol=1e-5)


def test_float_activations_with_int4_groups_refused(tmp_path: Path) -> None:
    model = as_model(Mlp(4, 32, 0), (torch.randn(2, 51),))
    with pytest.raises(LoweringError, match="int4 linear weights in groups of 32 with float activations") as caught:
        _lower(model, tmp_path)
    assert caught.value.code == "FER-LOW-002"


def test_expand_decodes_and_says_so(tmp_path: Path) -> None:
    x = torch.randn(2, 51)
    program = _lower(as_model(Mlp(4, 32, 0), (x,)), tmp_path, expand=True)
    assert "expanded to float32" in program.notes[0]
    assert _bytes(program, "linear") == 4 * (51 * 70 + 70 * 33)


def _static(inputs: int, outputs: int, x: Any, bias: bool = True, bits: int = 8, group: int = 0) -> CodedLinear:
    """A static layer whose ranges clip a little, as calibrated ones do."""
    plain = _coded(inputs, outputs, bits, group, 0, bias)
    y = functional.linear(x, plain.weight, plain.bias)
    ranges = [Range.between(0.9 * float(v.min()), 0.9 * float(v.max())) for v in (x, y)]
    return CodedLinear(plain.codec, plain.bias, ACTIVATION_STATIC, (ranges[0], ranges[1]))


def _steps(found: np.ndarray, wanted: Any, layer: CodedLinear) -> np.ndarray:
    """Differences in steps of the layer's output."""
    assert found.shape == tuple(wanted.shape)
    return np.abs(found - wanted.detach().numpy()) / layer.ranges[2]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(40, 51), (2, 20, 51), (2, 3, 7, 51)])
def test_static_layer_differs_by_a_step_where_sums_lie_between_two(
    shape: tuple[int, ...], bias: bool, tmp_path: Path
) -> None:
    torch.manual_seed(5)
    x = torch.randn(*shape)
    layer = _static(51, 70, x, bias)
    program = _lower(as_model(nn.Sequential(layer), {"input": x}), tmp_path)
    with _session(program, tmp_path) as session:
        steps = _steps(session.run({"input": x.numpy()})["output"], layer(x), layer)
    # Sums are the same integers but for a bias rounded to half of one; only those half-way between steps may turn.
    assert steps.max() < 1.01 and (steps > 0.01).mean() < 0.005
    assert _bytes(program, "linear") == 51 * 70 + 4 * 70
    (method,) = read_pte(tmp_path / program.main).methods
    assert method.instructions == (("delegate", "XnnpackBackend"),)


class StaticBlock(nn.Module):
    """Two layers that read the same tensor, slices between ranges, a weight-only layer behind a static one."""

    def __init__(self, x: Any) -> None:
        super().__init__()
        self.query, self.key = _static(96, 96, x), _static(96, 96, x, bias=False)
        self.mix = _static(48, 64, self.gate(x))
        self.plain = _coded(64, 33, 8, 0, 0, bias=False)
        self.last = _static(33, 33, self.plain(self.mix(self.gate(x))))

    def gate(self, x: Any) -> Any:
        return self.query(x)[..., :48] * torch.sigmoid(self.key(x)[..., 48:])

    def forward(self, x: Any) -> Any:
        return self.last(self.plain(self.mix(self.gate(x)))[:, 1:])


def test_static_layers_share_their_input_and_mix_with_others(tmp_path: Path) -> None:
    torch.manual_seed(6)
    x = torch.randn(1, 40, 96)
    module = StaticBlock(x).eval()
    model = Model({"forward": EntryPoint(module, {"x": x}, {"x": {1: Dim("tokens", 3, 40)}})}, source="test")
    program = _lower(model, tmp_path)
    with _session(program, tmp_path) as session:
        for length in (40, 9):
            part = x[:, :length]
            steps = _steps(session.run({"x": part.numpy()})["output"], module(part), module.last)
            assert steps.max() < 2.01 and (steps > 0.01).mean() < 0.05
    # The slice of a length that is known at run time only is no op of XNNPACK's.
    assert _portable(program) <= {"python.sub", "aten.sym_size", "aten.slice_copy"}
    assert sum(r.count for r in program.delegation if r.op.endswith(".quantize_per_tensor")) == 3 + 4
    elements = {w.kind: w.elements for w in program.weights}
    assert elements["linear"] == 2 * 96 * 96 + 64 * 48 + 33 * 64 + 33 * 33
    (tmp_path / "again").mkdir()
    _lower(model, tmp_path / "again")
    assert (tmp_path / "model.pte").read_bytes() == (tmp_path / "again" / "model.pte").read_bytes()


class Between(nn.Module):
    """Views and slices between a range and another, which XNNPACK takes on int8 only where the ranges are equal."""

    def __init__(self, x: Any, relu: bool) -> None:
        super().__init__()
        self.first, self.relu = _static(16, 24, x), relu
        self.second = _static(8, 8, self.middle(x) * 2)

    def middle(self, x: Any) -> Any:
        y = self.first(x)
        return torch.relu(y)[:, :8] if self.relu else y.view(-1, 8)

    def forward(self, x: Any) -> Any:
        return self.second(self.middle(x))


@pytest.mark.parametrize("relu", [True, False])
def test_what_stands_between_two_ranges_stays_float(relu: bool, tmp_path: Path) -> None:
    torch.manual_seed(7)
    x = torch.randn(6, 16)
    module = Between(x, relu).eval()
    program = _lower(as_model(module, {"x": x}), tmp_path)
    with _session(program, tmp_path) as session:
        steps = _steps(session.run({"x": x.numpy()})["output"], module(x), module.second)
    assert steps.max() < 2.01 and (steps > 0.01).mean() < 0.05
    assert not _portable(program)


def test_static_bias_beyond_int32_and_output_that_is_always_zero(tmp_path: Path) -> None:
    x = torch.randn(20, 16)
    weight = torch.cat([torch.zeros(1, 16), torch.full((1, 16), 1e-6), torch.randn(2, 16)])
    ranges = Range.between(-3, 3), Range.between(-6, 6)
    layer = CodedLinear(encode_affine(weight, 8), torch.tensor([5.0, -5.0, 0.5, 0.0]), ACTIVATION_STATIC, ranges)
    silent = CodedLinear(layer.codec, None, ACTIVATION_STATIC, (ranges[0], Range.between(0, 0)))
    program = _lower(as_model(layer, {"x": x}), tmp_path)
    with _session(program, tmp_path) as session:
        assert _steps(session.run({"x": x.numpy()})["output"], layer(x), layer).max() < 1.01
    program = _lower(as_model(silent, {"x": x}), tmp_path)
    with _session(program, tmp_path) as session:
        assert np.isfinite(session.run({"x": x.numpy()})["output"]).all()


@pytest.mark.parametrize("group", [0, 32])
def test_static_int4_is_refused(group: int, tmp_path: Path) -> None:
    x = torch.randn(2, 64)
    with pytest.raises(LoweringError, match="static int8 activations.*take int8 weights only") as caught:
        _lower(as_model(_static(64, 10, x, bits=4, group=group), (x,)), tmp_path)
    assert caught.value.code == "FER-LOW-002"


def test_palettes_are_refused_or_expanded(tmp_path: Path) -> None:
    codec = encode_lookup(torch.randn(32, 20), 4, group=16)
    for layer, x in (
        (CodedLinear(codec, torch.randn(32), 0), torch.randn(3, 20)),
        (CodedEmbedding(codec), torch.tensor([3, 31])),
    ):
        model = as_model(nn.Sequential(layer), {"input": x})
        with pytest.raises(LoweringError, match="4-bit palette indices of .* weights of layer '0'") as caught:
            _lower(model, tmp_path)
        assert caught.value.code == "FER-LOW-002" and "Core ML" in caught.value.hint
        program = _lower(model, tmp_path, expand=True)
        assert "expanded to float32" in program.notes[0]
        with _session(program, tmp_path) as session:
            y = session.run({"input": x.numpy()})["output"]
        np.testing.assert_allclose(y, layer(x).numpy(), atol=1e-5)


def test_unknown_kernel_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match=r"special_bessel_j0.*test_executorch\.py:\d+") as caught:
        _lower(as_model(Bessel(), (torch.randn(2, 3),)), tmp_path)
    assert caught.value.code == "FER-LOW-001"


def test_a_bare_sequential_whose_weights_are_named_by_numbers(tmp_path: Path) -> None:
    layers = (torch.nn.Conv1d(3, 8, 3), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Flatten())
    module = torch.nn.Sequential(*layers, torch.nn.Linear(48, 4)).eval()
    _check(module, {"input": torch.randn(1, 3, 8)}, tmp_path)


def test_a_state_begins_with_its_value(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.full((1, 4), 3.0))

        def forward(self, x: Any) -> Any:
            self.total.add_(x)
            return self.total * 2

    program = _lower(as_model(Sum(), (torch.ones(1, 4),)), tmp_path)
    with _session(program, tmp_path) as session:
        sums = [session.run({"x": np.ones((1, 4), np.float32)})["output"][0, 0] for _ in range(3)]
    assert sums == [8, 10, 12]


def test_a_weight_that_is_returned_is_refused(tmp_path: Path) -> None:
    class Shows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.layer(x), self.layer.bias

    with pytest.raises(LoweringError, match=r"returns 'layer\.bias', a weight") as caught:
        _lower(as_model(Shows(), (torch.randn(2, 4),)), tmp_path)
    assert caught.value.code == "FER-LOW-001"


@pytest.mark.parametrize(("causal", "mask"), [(False, False), (True, False), (False, True)])
def test_dynamic_encoder(causal: bool, mask: bool, tmp_path: Path) -> None:
    module = Encoder(causal, mask).eval()
    length = {1: Dim("tokens", 2, 24)}
    ids, keep = torch.arange(9)[None], torch.ones(1, 9, dtype=torch.int64)
    entry = EntryPoint(module, {"ids": ids, "keep": keep}, {"ids": length, "keep": length})
    program = _lower(Model({"forward": entry}, source="test"), tmp_path)
    with _session(program, tmp_path) as session:
        for n in (2, 24, 7):
            ids, keep = torch.randint(0, 40, (1, n)), torch.ones(1, n, dtype=torch.int64)
            keep[0, n // 2 :] = 0
            y = session.run({"ids": ids.numpy(), "keep": keep.numpy()})["output"]
            assert _cosine(y, module(ids, keep).detach().numpy()) > 0.999
    assert _bytes(program, "embedding") == 40 * 32 + 40 * 4
    assert any("quantized_ops_lib" in note for note in program.notes)
    delegated = {row.op for row in program.delegation if row.unit == "cpu:xnnpack"}
    assert {"aten._softmax", "aten.bmm", "aten.rsqrt", "aten.tanh"} <= delegated
    assert not {"aten.native_layer_norm", "aten._softmax", "aten.any"} & _portable(program)


def test_convnet_is_one_delegate(tmp_path: Path) -> None:
    program = _check(Convnet(), {"x": torch.randn(1, 3, 33, 33)}, tmp_path)
    (method,) = read_pte(tmp_path / program.main).methods
    assert method.instructions == (("delegate", "XnnpackBackend"),)


def test_wholly_masked_row_stays_zero(tmp_path: Path) -> None:
    module, x = BoolMask(), torch.randn(1, 2, 5, 8)
    program = _lower(as_model(module, (x,)), tmp_path)
    with _session(program, tmp_path) as session:
        y = session.run({"x": x.numpy()})["output"]
    np.testing.assert_allclose(y, module(x).numpy(), atol=1e-5)
    assert not y[:, :, 0].any()
    (row,) = {r.reason for r in program.delegation if r.op == "aten.any"}
    assert "bool" in row


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mlp, Program, Path]]:
    folder = tmp_path_factory.mktemp("pair")
    module = Mlp(8, 0, 1)
    entries = {name: EntryPoint(module, {"x": torch.randn(n, 51)}) for name, n in (("one", 1), ("many", 5))}
    yield module, _lower(Model(entries, source="test"), folder), folder


def test_entry_points_share_weights(pair: tuple[Mlp, Program, Path]) -> None:
    module, program, folder = pair
    assert _bytes(program, "linear") == 51 * 70 + 70 * 33 + 4 * 103
    stored = sum(segment.size for segment in read_pte(folder / program.main).named.values())
    assert stored == sum(w.bytes for w in program.weights)
    with _session(program, folder) as session:
        for name, rows in (("one", 1), ("many", 5)):
            x = torch.randn(rows, 51)
            y = session.run({"x": x.numpy()}, name)["output"]
            assert _cosine(y, module(x).numpy()) > 0.9999


def test_outputs_are_copies(pair: tuple[Mlp, Program, Path]) -> None:
    _, program, folder = pair
    with _session(program, folder) as session:
        x = np.ones((1, 51), np.float32)
        first = session.run({"x": x}, "one")["output"]
        kept = first.copy()
        session.run({"x": -x}, "one")
        np.testing.assert_array_equal(first, kept)


def test_damaged_file_is_refused(pair: tuple[Mlp, Program, Path], tmp_path: Path) -> None:
    _, program, folder = pair
    data = (folder / program.main).read_bytes()
    damaged = tmp_path / "damaged.pte"
    damaged.write_bytes(data[: len(data) // 2])
    with pytest.raises(BundleError) as caught:
        open_program(damaged, "executorch", program.entry_points)
    assert caught.value.code == "FER-BUN-021"
    damaged.write_bytes(b"\0" * 200)
    with pytest.raises(BundleError) as caught:
        read_pte(damaged)
    assert caught.value.code == "FER-BUN-020"


_BUILD = """
import sys, warnings
from pathlib import Path
import torch
from ferrule.codec import encode_affine
from ferrule.coded import CodedLinear
from ferrule.converters.executorch import lower
from ferrule.device_profiles import load
from ferrule.model import as_model, capture

torch.manual_seed(0)
module = torch.nn.Sequential(
    CodedLinear(encode_affine(torch.randn(40, 64), 4, 32), torch.randn(40), 1),
    torch.nn.LayerNorm(40),
    torch.nn.Linear(40, 8),
)
lower(capture(as_model(module, (torch.randn(2, 64),))), load("galaxy-s24"), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_same_bytes_in_another_process(tmp_path: Path) -> None:
    digests = set()
    for seed in ("1", "77"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", _BUILD, str(folder)], check=True, env=environment, capture_output=True)
        digests.add(hashlib.sha256((folder / "model.pte").read_bytes()).hexdigest())
    assert len(digests) == 1
