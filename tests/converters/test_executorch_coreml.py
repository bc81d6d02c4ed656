"""The executorch-coreml target: .pte files made of Core ML delegates, taken apart and run by the MIL interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferrule.codec import Affine, Range, encode_affine, stored_bytes
from ferrule.coded import ACTIVATION_DYNAMIC, ACTIVATION_NONE, ACTIVATION_STATIC, CodedEmbedding, CodedLinear
from ferrule.converters.coreml.interpreter import list_misdeclared
from ferrule.converters.coreml.mil import load as read_package
from ferrule.converters.executorch_coreml import extract_mlpackages, lower, read_methods
from ferrule.device_profiles import load
from ferrule.errors import BundleError, DeviceError, LoweringError
from ferrule.model import Dim, EntryPoint, Model, as_model, capture
from ferrule.palette import encode_lookup
from ferrule.program import Program
from ferrule.runtime.session import Session, open_program

DEVICE = load("macbook-air-m2")
TOKENS = Dim("tokens", 2, 40)


def affine(rows: int, columns: int, bits: int, group: int) -> Affine:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)) / columns**0.5
    return encode_affine(weight, bits, group)


class OddMlp(nn.Module):
    """67 -> 130 -> 5: columns that are no multiple of 32, one layer without bias."""

    def __init__(self, bits: int, group: int, activation: int) -> None:
        super().__init__()
        self.up = CodedLinear(affine(130, 67, bits, group), torch.linspace(-1, 1, 130), activation)
        self.down = CodedLinear(affine(5, 130, bits, group), None, activation)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(nn.functional.gelu(self.up(x)))
        return y


class Encoder(nn.Module):
    """Tokens under a mask to one unit vector; the mask is read first, so that orders of inputs differ."""

    def __init__(self) -> None:
        super().__init__()
        self.table = CodedEmbedding(affine(101, 32, 8, 0))
        self.mix = CodedLinear(affine(32, 32, 4, 32), torch.linspace(-1, 1, 32), ACTIVATION_NONE)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        weight = mask.unsqueeze(-1).float()
        count = weight.sum(1)
        mean = (self.mix(self.table(ids)) * weight).sum(1) / count
        return nn.functional.normalize(mean, dim=-1), count * 3


def encoder_model(padding: dict[str, float]) -> Model:
    ids = (torch.arange(8) * 7 % 101).view(1, 8)
    entry = EntryPoint(
        Encoder().eval(),
        {"ids": ids, "mask": torch.ones(1, 8, dtype=torch.long)},
        {"ids": {1: TOKENS}, "mask": {1: TOKENS}},
        padding,
        ("mean", "count"),
    )
    return Model({"forward": entry}, source="test")


def build(folder: Path, model: Model | nn.Module, *inputs: Tensor, expand: bool = False) -> tuple[Program, Session]:
    program = lower(capture(as_model(model, inputs or None)), DEVICE, folder, expand)
    return program, open_program(folder / program.main, "executorch-coreml", program.entry_points)


def cosine(a: Any, b: Any) -> float:
    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def eager(module: nn.Module, *inputs: Tensor) -> Any:
    with torch.no_grad():
        return module(*inputs)


@pytest.mark.parametrize(
    ("codec", "shape", "bound"),
    [
        ((8, 0, ACTIVATION_NONE), (3, 67), 0.99999),
        ((8, 0, ACTIVATION_DYNAMIC), (1, 4, 67), 0.999),
        ((4, 32, ACTIVATION_NONE), (2, 3, 2, 67), 0.99999),
    ],
)
def test_each_codec_runs_as_the_coded_reference(
    tmp_path: Path, codec: tuple[int, int, int], shape: tuple[int, ...], bound: float
) -> None:
    module = OddMlp(*codec).eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    program, session = build(tmp_path, module, x)
    out = session.run({"x": x.numpy()})["output"]
    session.close()
    assert (session.engine.name, out.dtype, out.shape) == ("coreml-reference", np.float32, (*shape[:-1], 5))
    assert cosine(out, eager(module, x)) > bound
    assert any("Activations stay in float16" in n for n in program.notes) == (codec[2] == ACTIVATION_DYNAMIC)


@pytest.fixture(scope="module")
def bucketed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Session, Path]]:
    folder = tmp_path_factory.mktemp("buckets")
    program, session = build(folder, encoder_model({"ids": 0, "mask": 0}))
    with session:
        yield program, session, folder


def test_buckets_are_methods_that_share_one_package(bucketed: tuple[Program, Session, Path], tmp_path: Path) -> None:
    program, session, folder = bucketed
    packages = extract_mlpackages(folder / program.main, tmp_path)
    assert program.entry_points["forward"].buckets == (16, 40)
    assert set(packages) == {"forward_16", "forward_40"} and len(set(packages.values())) == 1
    for length in (2, 32, 33):
        ids, mask = (torch.arange(length) * 5 % 101).view(1, length), torch.ones(1, length, dtype=torch.long)
        out = session.run({"ids": ids.numpy(), "mask": mask.numpy()})
        mean, count = eager(Encoder(), ids, mask)
        assert cosine(out["mean"], mean) > 0.9999
        assert np.array_equal(out["count"], count.numpy())


def test_weights_are_our_codes_in_the_delegate(bucketed: tuple[Program, Session, Path], tmp_path: Path) -> None:
    program, _, folder = bucketed
    package = read_package(extract_mlpackages(folder / program.main, tmp_path)["forward_16"])
    kinds = [op.kind for op in package.functions["forward_16"].ops]
    assert kinds.count("constexpr_blockwise_shift_scale") == 2
    sizes = {w.kind: (w.elements, w.bytes) for w in program.weights}
    assert sizes["embedding"] == (101 * 32, 101 * 32 + 101 * 2)
    assert sizes["linear"] == (32 * 32, 32 * 32 // 2 + 32 * 2)


def test_method_order_is_the_graphs_though_the_delegate_has_another(
    bucketed: tuple[Program, Session, Path], tmp_path: Path
) -> None:
    program, _, folder = bucketed
    method = read_methods(folder / program.main, tmp_path)["forward_16"]
    assert method.inputs == ("ids", "mask") and len(method.outputs) == 2
    metadata = json.loads((method.package.parent / "metadata.json").read_text())
    assert sorted(metadata["methods"]["forward_16"]["inputNames"]) == ["ids", "mask"]


def test_delegation_lists_every_op(bucketed: tuple[Program, Session, Path], tmp_path: Path) -> None:
    program, _, folder = bucketed
    package = read_package(extract_mlpackages(folder / program.main, tmp_path)["forward_16"])
    ops = [op.kind for function in package.functions.values() for op in function.ops if op.kind != "const"]
    assert sum(row.count for row in program.delegation) == len(ops)
    assert all(row.reason and row.basis == "predicted" for row in program.delegation)


def test_axes_that_may_not_be_padded_stay_a_range(tmp_path: Path) -> None:
    program, session = build(tmp_path, encoder_model({}))
    assert program.entry_points["forward"].buckets == ()
    for length in (2, 11, 40):
        ids, mask = (torch.arange(length) * 3 % 101).view(1, length), torch.ones(1, length, dtype=torch.long)
        out = session.run({"ids": ids.numpy(), "mask": mask.numpy()})
        assert cosine(out["mean"], eager(Encoder(), ids, mask)[0]) > 0.9999
    session.close()


@pytest.mark.parametrize("padding", [{}, {"mask": 0}], ids=["range", "buckets"])
def test_choices_declare_the_shape_of_their_condition(tmp_path: Path, padding: dict[str, float]) -> None:
    class Chooser(nn.Module):
        def forward(self, mask: Tensor) -> Tensor:
            return torch.where(mask.bool()[:, None, :], 0.5, -1e4)

    entry = EntryPoint(Chooser(), {"mask": torch.ones(1, 8, dtype=torch.long)}, {"mask": {1: TOKENS}}, padding)
    program, session = build(tmp_path, Model({"forward": entry}, source="test"))
    methods = read_methods(tmp_path / program.main, tmp_path)
    packages = {method.function: read_package(method.package) for method in methods.values()}
    assert any(op.kind == "select" for name, package in packages.items() for op in package.functions[name].ops)
    assert [found for name, package in packages.items() for found in list_misdeclared(package, name)] == []
    for length in (16, 40) if padding else (2, 11):
        mask = (torch.arange(length) % 3 != 1).long().view(1, length)
        out = session.run({"mask": mask.numpy()})["output"]
        assert np.array_equal(out, eager(Chooser(), mask).numpy())
    session.close()


def test_several_entry_points_share_their_weights(tmp_path: Path) -> None:
    layer = CodedLinear(affine(320, 256, 8, 0), torch.zeros(320), ACTIVATION_NONE)
    entries = {name: EntryPoint(layer, {"x": torch.randn(n, 256)}) for name, n in (("prefill", 4), ("decode", 1))}
    program, session = build(tmp_path, Model(entries, source="test"))
    assert (tmp_path / program.main).stat().st_size < 110_000
    for name, rows in (("prefill", 4), ("decode", 1)):
        x = torch.randn(rows, 256)
        assert cosine(session.run({"x": x.numpy()}, name)["output"], eager(layer, x)) > 0.99999
    session.close()


@pytest.mark.parametrize(("bits", "group", "scaled"), [(1, 0, False), (3, 17, True), (4, 16, False), (6, 5, True)])
def test_palettes_stay_palettes_in_the_delegate(tmp_path: Path, bits: int, group: int, scaled: bool) -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            table, weight = torch.randn(102, 67), torch.randn(130, 67) / 8
            self.table = CodedEmbedding(encode_lookup(table, bits, group, scaled))
            self.mix = CodedLinear(encode_lookup(weight, bits, group, scaled), torch.ones(130), ACTIVATION_NONE)

        def forward(self, ids: Tensor) -> Tensor:
            y: Tensor = self.mix(self.table(ids))
            return y

    torch.manual_seed(0)
    module, ids = Words().eval(), torch.tensor([[0, 7, 101]])
    program, session = build(tmp_path, module, ids)
    out = session.run({"ids": ids.numpy()})["output"]
    session.close()
    sizes = {w.kind: (w.elements, w.bytes) for w in program.weights}
    assert cosine(out, eager(module, ids)) > 0.99999
    assert sizes["linear"] == (130 * 67, stored_bytes(module.mix.codec))
    assert sizes["embedding"] == (102 * 67, stored_bytes(module.table.codec))


def test_static_activations_are_pairs_in_the_delegate(tmp_path: Path) -> None:
    ranges = (Range(2.0**-5, 3), Range(2.0**-5, -7))
    layer = CodedLinear(affine(130, 67, 8, 0), torch.linspace(-1, 1, 130), ACTIVATION_STATIC, ranges)
    x = torch.randn(20, 67, generator=torch.Generator().manual_seed(4)).half().float()
    program, session = build(tmp_path, layer, x)
    steps = (session.run({"x": x.numpy()})["output"] - eager(layer, x).numpy()) / ranges[1].scale
    session.close()
    assert abs(steps).max() <= 1 and (steps == 0).mean() > 0.97
    assert sum(row.count for row in program.delegation if row.op == "quantize") == 2


def test_an_input_that_nothing_reads_stays_in_the_signature(tmp_path: Path) -> None:
    class Lazy(nn.Module):
        def forward(self, x: Tensor, unused: Tensor) -> Tensor:
            scores = x + (1.0 - (x > 0).float()) * torch.finfo(torch.float32).min
            return torch.softmax(scores, -1)

    x = torch.tensor([[1.0, -1.0, 2.0]])
    _, session = build(tmp_path, Lazy(), x, torch.ones(1))
    out = session.run({"x": x.numpy(), "unused": np.ones(1, np.float32)})["output"]
    session.close()
    assert cosine(out, eager(Lazy(), x, x)) > 0.9999


def test_a_float_mask_made_like_a_boolean_one_is_float(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, padding: Tensor) -> Tensor:
            mask = torch.zeros_like(padding, dtype=x.dtype).masked_fill_(padding, float("-inf"))
            return torch.softmax(x + mask, -1) + 0.5 * torch.ones_like(padding, dtype=x.dtype)

    x, padding = torch.randn(2, 6), torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    _, session = build(tmp_path, Masked(), x, padding)
    out = session.run({"x": x.numpy(), "padding": padding.numpy()})["output"]
    session.close()
    assert np.allclose(out, eager(Masked(), x, padding), atol=2e-3)


def test_refusals(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.igamma(x, x)

    layer = CodedLinear(affine(8, 16, 3, 0), None, ACTIVATION_NONE)
    graphs = capture(as_model(layer, (torch.randn(2, 16),)))
    with pytest.raises(LoweringError, match="FER-LOW-001.*igamma.*test_executorch_coreml.py:"):
        build(tmp_path, Odd(), torch.rand(2, 3))
    with pytest.raises(LoweringError, match="FER-LOW-002.*3-bit"):
        lower(graphs, DEVICE, tmp_path)
    with pytest.raises(DeviceError, match="FER-DEV-002"):
        lower(graphs, load("raspberry-pi-5"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_not_made_of_core_ml_delegates_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(b"\0" * 100)
    with pytest.raises(BundleError, match="FER-BUN-021"):
        extract_mlpackages(tmp_path / "model.pte", tmp_path)


SCRIPT = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_executorch_coreml import DEVICE, capture, encoder_model, lower
Path(sys.argv[2]).mkdir(parents=True)
lower(capture(encoder_model({"ids": 0, "mask": 0})), DEVICE, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_same_bytes_in_another_process_and_folder(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "some" / "where" / "else"]
    for seed, folder in enumerate(folders):
        command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(folder)]
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "TMPDIR": str(folder.parent)}
        folder.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, env=environment, check=True, capture_output=True)
    files = [{p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()} for f in folders]
    assert list(files[0]) == [Path("model.pte")] and files[0] == files[1]
