"""Our kernels as torch ops and inside the vendors' runtimes: each against a plain torch reference, and kept whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferrule.codec import pack_codes
from ferrule.coded import CodedLinear
from ferrule.converters import find_target
from ferrule.converters.decompositions import functionalize
from ferrule.device_profiles import load
from ferrule.errors import LoweringError, TargetError
from ferrule.flow import deploy
from ferrule.model import EntryPoint, Model, capture
from ferrule.palette import encode_lookup
from ferrule.program import Dim, Program
from ferrule.runtime import torch_ops, vendor_ops
from ferrule.runtime.session import open_program

ops = torch.ops.ferrule


class Attention(nn.Module):
    """Keys and values are coded and then attended to, as a decoder's cache is."""

    def __init__(self, bits: int, group: int, causal: bool, ends: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.bits, self.group, self.causal = bits, group, causal
        self.register_buffer("ends", None if ends is None else torch.tensor(ends, dtype=torch.int32))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys = ops.quantize_kv(key, self.bits, self.group, 1.0)
        values = ops.quantize_kv(value, self.bits, self.group, 1.0)
        ends: Any = self.ends
        y: Tensor = ops.attention_quantized(query, *keys, *values, ends, self.bits, self.group, 0.2, self.causal)
        return y


class LookupLinear(nn.Module):
    def __init__(self, bits: int, group: int, dynamic: bool, bias: bool, rows: int = 24, depth: int = 37) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(bits + group)
        self.bits, self.group, self.dynamic, self.depth = bits, group, dynamic, depth
        self.indices = torch.randint(0, 2**bits, (rows, depth), generator=generator).to(torch.uint8)
        palettes = rows // group if group else 1
        self.register_buffer("codes", pack_codes(self.indices, bits))
        self.register_buffer("scales", torch.rand(rows, generator=generator) + 0.5)
        self.register_buffer("table", torch.randn(palettes, 2**bits, generator=generator).sort().values)
        self.register_buffer("bias", torch.randn(rows, generator=generator) if bias else None)
        self.digest = torch_ops.digest_weights(*self.weights())

    def weights(self) -> tuple[Any, ...]:
        return self.codes, self.scales, self.table, self.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = ops.lookup_linear(x, *self.weights(), self.bits, self.group, self.dynamic, self.digest)
        return y

    def reference(self, x: Tensor) -> Tensor:
        from ferrule.coded import quantize_rows

        codes, scales, table, bias = self.weights()
        weight = (
            table.gather(1, self.indices.long().view(table.shape[0], -1)).view(self.indices.shape) * scales[:, None]
        )
        if self.dynamic:
            quantized, scale, zero = quantize_rows(x)
            x = (quantized - zero) * scale
        return nn.functional.linear(x, weight, bias)


class Merging(nn.Module):
    def __init__(self, count: int, protected: int) -> None:
        super().__init__()
        self.count, self.protected = count, protected

    def forward(self, metric: Tensor, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        plan, _ = ops.token_match(metric, sizes, None, self.count, self.protected)
        merged: tuple[Tensor, Tensor] = ops.token_merge(x, plan, sizes, x.shape[1] - self.count)
        return merged


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...]  # shapes
    ops: tuple[str, ...]

    def tensors(self) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(0)
        # Sizes of tokens are whole and above zero; it does no harm to the others.
        return tuple(torch.randn(s, generator=generator) if len(s) > 2 else torch.ones(s) for s in self.inputs)


ATTENTION = ((2, 6, 3, 32), (2, 2, 19, 32), (2, 2, 19, 32))
CASES = (
    Case("kv8_ends", partial(Attention, 8, 16, False, (19, 7)), ATTENTION, ("quantize_kv", "attention_quantized")),
    Case("kv4", partial(Attention, 4, 16, True), ATTENTION, ("quantize_kv", "attention_quantized")),
    Case("kv2", partial(Attention, 2, 16, False), ATTENTION, ("quantize_kv", "attention_quantized")),
    Case("lookup4", partial(LookupLinear, 4, 8, False, True), ((3, 5, 37),), ("lookup_linear",)),
    Case("lookup4_dynamic", partial(LookupLinear, 4, 0, True, False), ((3, 5, 37),), ("lookup_linear",)),
    Case("lookup2", partial(LookupLinear, 2, 4, False, True), ((1, 1, 37),), ("lookup_linear",)),
    Case("tome", partial(Merging, 5, 1), ((2, 3, 17, 8), (2, 17, 12), (2, 17)), ("token_match", "token_merge")),
)
by_name = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def model(module: nn.Module, inputs: tuple[Tensor, ...], dynamic: Any = None) -> Model:
    return Model({"forward": entry_of(module, inputs, dynamic)}, "test")


def entry_of(module: nn.Module, inputs: tuple[Tensor, ...], dynamic: Any = None) -> EntryPoint:
    names = list(inspect.signature(module.forward).parameters)
    return EntryPoint(module.eval(), dict(zip(names, inputs, strict=True)), dynamic or {})


def lower(target: str, model: Model, folder: Path, **options: bool) -> Program:
    folder.mkdir(parents=True, exist_ok=True)
    program: Program = find_target(target).lower()(capture(model), load("galaxy-s24"), folder, **options)
    return program


def run(program: Program, folder: Path, inputs: tuple[Tensor, ...], entry: str = "forward", threads: int = 1) -> Any:
    signature = program.entry_points[entry]
    with open_program(folder / program.main, program.target, program.entry_points, threads) as session:
        named = {spec.name: value.numpy() for spec, value in zip(signature.inputs, inputs, strict=True)}
        outputs = session.run(named, entry)
    return [outputs[spec.name] for spec in signature.outputs]


def agree(found: list[Any], wanted: Any) -> bool:
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    return all(np.array_equal(a, b.numpy()) for a, b in zip(found, wanted, strict=True))


def dequantize(codes: Tensor, scales: Tensor, offsets: Tensor, bits: int, group: int, size: int) -> Tensor:
    """The planes of csrc/include/ferrule/attention.h, read by plain torch."""
    if bits == 8:
        values = codes.view(torch.int8)
    else:
        values = torch.cat([(codes >> shift) & (2**bits - 1) for shift in range(0, 8, bits)], -1)[..., :size]
    wide = [each.repeat_interleave(group or size, -1)[..., :size] for each in (scales, offsets)]
    return values.float() * wide[0] + wide[1]


@by_name
def test_torch_ops_are_kept_whole_by_export(case: Case) -> None:
    program = functionalize(capture(model(case.make(), case.tensors()))["forward"].program)
    called = {str(node.target) for node in program.graph.nodes if str(node.target).startswith("ferrule.")}
    assert called == {f"ferrule.{name}.default" for name in case.ops}


@pytest.mark.parametrize(("bits", "group", "causal"), [(8, 0, True), (8, 16, False), (4, 16, True), (2, 32, False)])
def test_attention_is_that_of_the_decoded_cache(bits: int, group: int, causal: bool) -> None:
    query, key, value = CASES[0].tensors()
    ends = torch.tensor([19, 7], dtype=torch.int32)
    keys, values = (torch_ops.quantize_kv(each, bits, group, 1.0) for each in (key, value))
    torch.library.opcheck(torch_ops.quantize_kv, (key, bits, group, 0.9))
    arguments = (query, *keys, *values, ends, bits, group, 0.2, causal)
    torch.library.opcheck(torch_ops.attention_quantized, arguments)
    k, v = (dequantize(*each, bits, group, 32).repeat_interleave(3, 1) for each in (keys, values))
    seen = torch.arange(19) < ends[:, None, None, None]
    if causal:
        seen = seen & (torch.arange(19) <= torch.arange(3)[:, None] + 16)
    expected = torch.softmax((0.2 * query @ k.mT).masked_fill(~seen, -torch.inf), -1) @ v
    assert torch.allclose(torch_ops.attention_quantized(*arguments), expected, atol=1e-5)
    assert (k - key.repeat_interleave(3, 1)).abs().max() < 8 / 2**bits


@pytest.mark.parametrize(
    ("bits", "group", "dynamic", "bias"), [(4, 8, False, True), (4, 0, True, False), (2, 4, False, True)]
)
def test_lookup_linear_is_that_of_the_decoded_weight(bits: int, group: int, dynamic: bool, bias: bool) -> None:
    layer, x = (
        LookupLinear(bits, group, dynamic, bias),
        torch.randn(3, 5, 37, generator=torch.Generator().manual_seed(1)),
    )
    assert torch.equal(torch_ops.unpack_indices(layer.codes, bits, 37), layer.indices)
    torch.library.opcheck(torch_ops.lookup_linear, (x, *layer.weights(), bits, group, dynamic, layer.digest))
    wanted = layer.reference(x)
    # With dynamic inputs the palette is rounded to int8 too.
    assert (layer(x) - wanted).abs().max() < (1e-2 if dynamic else 1e-5) * wanted.abs().max()


def test_lookup_linear_tells_weights_apart_by_their_digest() -> None:
    layer, x = LookupLinear(4, 8, False, True), torch.randn(2, 37)
    first = layer(x)
    layer.codes ^= 1  # in place: the packed layer of the old codes must not be used
    with pytest.raises(ValueError, match="FER-KER-008"):
        layer(x)
    layer.digest = torch_ops.digest_weights(*layer.weights())
    layer.indices ^= torch_ops.unpack_indices(torch.ones_like(layer.codes), 4, 37)
    assert not torch.equal(layer(x), first)
    assert torch.allclose(layer(x), layer.reference(x), atol=1e-4)


def test_token_merging_is_that_of_its_plan() -> None:
    metric, x, sizes = CASES[-1].tensors()
    sizes[:, 3:] += 2  # some stand for three tokens
    torch.library.opcheck(torch_ops.token_match, (metric, sizes, None, 5, 1))
    plan, left = torch_ops.token_match(metric, sizes, None, 5, 1)
    torch.library.opcheck(torch_ops.token_merge, (x, plan, sizes, 12))
    assert left.tolist() == [12, 12]
    assert torch_ops.token_match(metric, None, torch.tensor([5, 2], dtype=torch.int32), 0, 1)[1].tolist() == [12, 15]
    merged, merged_sizes = torch_ops.token_merge(x, plan, sizes, 12)
    route = nn.functional.one_hot(plan.long(), 12).float() * sizes[..., None]
    assert torch.equal(merged_sizes, route.sum(1))
    assert torch.allclose(merged, route.mT @ x / merged_sizes[..., None], atol=1e-6)


def test_out_variants_fill_what_they_are_given() -> None:
    """One stands for all: they are made alike, and ExecuTorch looks them up by name and never runs them."""
    x = torch.randn(1, 2, 5, 32)
    codes, scales, offsets = torch_ops.quantize_kv(x, 4, 16, 1.0)
    outs = [torch.empty_like(each) for each in (codes, scales, offsets)]
    given = dict(zip(("out0", "out1", "out2"), outs, strict=True))
    told = ops.quantize_kv.out(x, 4, 16, 1.0, **given)
    assert all(a is b for a, b in zip(told, outs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(outs, (codes, scales, offsets), strict=True))


@pytest.fixture(scope="module", params=["executorch", "onnx"])
def lowered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Program, Path]:
    """All cases as the entry points of one program: lowering is what takes long."""
    folder = tmp_path_factory.mktemp(request.param)
    entries = {case.name: entry_of(case.make(), case.tensors()) for case in CASES}
    return lower(request.param, Model(entries, "test"), folder), folder


def test_the_delegation_table_tells_of_our_kernels(lowered: tuple[Program, Path]) -> None:
    rows = [row for row in lowered[0].delegation if row.unit == "cpu:ferrule"]
    assert {row.op.removeprefix("ferrule.") for row in rows} == {name for case in CASES for name in case.ops}
    assert all("Ferrule's kernel" in row.reason and "test_vendor_ops.py" in row.source for row in rows)


@pytest.mark.parametrize("threads", [1, 2])
@by_name
def test_vendors_runtimes_call_the_same_kernels(lowered: tuple[Program, Path], case: Case, threads: int) -> None:
    program, folder = lowered
    inputs = case.tensors()
    assert agree(run(program, folder, inputs, case.name, threads), case.make()(*inputs))


@pytest.mark.parametrize("target", ["executorch", "native", "onnx"])
def test_lengths_stay_dynamic(target: str, tmp_path: Path) -> None:
    module, tokens = Attention(4, 16, True), Dim("tokens", 2, 64)
    shapes = {name: {2: tokens} for name in ("query", "key", "value")}
    inputs = tuple(torch.randn(1, 2, 9, 32) for _ in range(3))
    program = lower(target, model(module, inputs, shapes), tmp_path)
    for length in (2, 33, 64):
        inputs = tuple(torch.randn(1, 2, length, 32) for _ in range(3))
        assert agree(run(program, tmp_path, inputs), module(*inputs))


def test_onnx_refuses_a_number_that_depends_on_a_length(tmp_path: Path) -> None:
    tokens = Dim("tokens", 9, 64)
    inputs = CASES[-1].tensors()
    merging = model(Merging(3, 1), inputs, {"metric": {2: tokens}, "x": {1: tokens}, "sizes": {1: tokens}})
    with pytest.raises(LoweringError, match="FER-LOW-001.*'left'.*dynamic length"):
        lower("onnx", merging, tmp_path / "onnx")
    program = lower("executorch", merging, tmp_path / "executorch")
    longer = (torch.randn(2, 3, 40, 8), torch.randn(2, 40, 12), torch.ones(2, 40))
    assert agree(run(program, tmp_path / "executorch", longer), Merging(3, 1)(*longer))


class Coded(nn.Module):
    """Two layers held by palettes, one with a scale for each row, and a plain one between them."""

    def __init__(self, bits: int, activation: int) -> None:
        super().__init__()
        torch.manual_seed(bits)
        self.first = CodedLinear(encode_lookup(torch.randn(48, 64) / 8, bits, 16), torch.randn(48), activation)
        self.plain = nn.Linear(48, 64)
        self.last = CodedLinear(encode_lookup(torch.randn(64, 64) / 8, bits, 0, True), None, activation)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(nn.functional.gelu(self.plain(self.first(x))))
        return y


@pytest.mark.parametrize("target", ["executorch", "onnx"])
def test_palettes_keep_their_indices_where_kernels_are_allowed(target: str, tmp_path: Path) -> None:
    modules = {f"w{b}a{a}": Coded(b, a).eval() for b, a in ((4, 0), (2, 0), (4, 1))}
    x = torch.randn(7, 64, generator=torch.Generator().manual_seed(2))
    with pytest.raises(LoweringError, match="FER-LOW-002.*--kernels"):
        lower(target, model(modules["w4a0"], (x,)), tmp_path / "refused")
    program = lower(target, Model({n: entry_of(m, (x,)) for n, m in modules.items()}, "test"), tmp_path, kernels=True)
    (linear,) = [row for row in program.weights if row.kind == "linear"]
    # The same seed: the layers of w4a0 and w4a1 are equal and stored once, and so is the plain layer of each seed.
    coded, plain = 48 * 64 + 64 * 64, 48 * 64
    assert linear.elements == 2 * (coded + plain)
    least = coded * 4 // 8 + coded * 2 // 8 + 2 * plain * 4
    assert least < linear.bytes < least + 3 * 4 * (48 + 64 + 4 * 16)
    rows = [row for row in program.delegation if row.unit == "cpu:ferrule"]
    assert {row.op.removeprefix("ferrule.") for row in rows} == {"lookup_linear"} and sum(r.count for r in rows) == 6
    assert any("Ferrule's kernel" in note for note in program.notes)
    for name, module in modules.items():
        (found,), wanted = run(program, tmp_path, (x,), name), module(x).detach().numpy()
        assert np.abs(found - wanted).max() < (3e-2 if name == "w4a1" else 1e-5) * np.abs(wanted).max()


def test_a_build_keeps_palettes_by_our_kernels(tmp_path: Path) -> None:
    results = deploy(
        nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64)),
        (torch.randn(5, 64),),
        devices=["raspberry-pi-5:onnx", "pixel-9:litert"],
        recipe="lut4",
        out=tmp_path,
        kernels=True,
    )
    assert [(result.status, result.code) for result in results] == [("ok", None), ("refused", "FER-LOW-002")]
    assert results[0].parity is not None and results[0].parity.cosine > 0.98  # what four bits cost
    assert any("Ferrule's kernel" in note for note in results[0].notes)


def test_litert_refuses_our_ops_by_name(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match="FER-LOW-001.*ferrule.token_match"):
        lower("litert", model(CASES[-1].make(), CASES[-1].tensors()), tmp_path)


def test_what_our_kernels_do_not_read_is_still_refused(tmp_path: Path) -> None:
    layer = CodedLinear(encode_lookup(torch.randn(8, 16), 3), None, 0)
    with pytest.raises(LoweringError, match="FER-LOW-002"):
        lower("onnx", model(nn.Sequential(layer), (torch.randn(2, 16),)), tmp_path, kernels=True)


def test_a_library_that_was_not_built_is_named(
    lowered: tuple[Program, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, folder = lowered
    monkeypatch.setattr(vendor_ops, "_path", lambda vendor: tmp_path / f"libferrule_{vendor}.so")
    vendor_ops.executorch_ops.cache_clear()
    with pytest.raises(TargetError, match="FER-TGT-006.*was not built"):
        open_program(folder / program.main, program.target, program.entry_points)
    with pytest.raises(TargetError, match="FER-TGT-006.*was not built"):
        lower(program.target, model(CASES[0].make(), CASES[0].tensors()), tmp_path)


@pytest.mark.parametrize("target", ["executorch", "onnx"])
def test_an_op_that_refuses_says_why(target: str, tmp_path: Path) -> None:
    layer = LookupLinear(4, 8, False, True)
    program = lower(target, model(layer, (torch.randn(2, 37),)), tmp_path)
    path = tmp_path / program.main
    codes = layer.codes.numpy().tobytes()
    data = path.read_bytes()
    assert data.count(codes) == 1
    path.write_bytes(data.replace(codes, bytes([codes[0] ^ 1]) + codes[1:]))
    with pytest.raises(Exception) as caught:  # the runtimes' own kinds
        run(program, tmp_path, (torch.randn(2, 37),))
    told = " ".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "FER-KER-008: ferrule::lookup_linear" in told
