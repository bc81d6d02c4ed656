"""Our torch ops in native programs: the same bits as torch, at every length; caches of codes as states; refusals."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from ferrule.codec import pack_codes
from ferrule.converters import native
from ferrule.converters.native_file import GRAPH
from ferrule.device_profiles import load
from ferrule.errors import LoweringError, ProgramError
from ferrule.model import Dim, EntryPoint, Model, capture
from ferrule.program import Program
from ferrule.runtime import torch_ops
from ferrule.runtime.engines.native import NativeEngine, open_engine

ops = torch.ops.ferrule
HEADS, KV_HEADS, SIZE = 4, 2, 32
WIDTH, WORDS, CAPACITY = HEADS * SIZE, 50, 40


class Function(nn.Module):
    """A function of one to three tensors as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, y: Tensor | None = None, z: Tensor | None = None) -> Any:
        return self.function(*(each for each in (x, y, z) if each is not None))


def entry(module: nn.Module, inputs: tuple[Tensor, ...], dynamic: Mapping[str, Any] | None = None) -> EntryPoint:
    return EntryPoint(module.eval(), dict(zip("xyz", inputs, strict=False)), dict(dynamic or {}))


def lower(entries: Mapping[str, EntryPoint], folder: Path) -> Program:
    return native.lower(capture(Model(dict(entries), "test")), load("raspberry-pi-5"), folder)


def open_entries(entries: Mapping[str, EntryPoint], folder: Path, threads: int = 1) -> NativeEngine:
    program = lower(entries, folder)
    return open_engine(folder / program.main, program.entry_points, threads)


def nodes(folder: Path, number: int = 0) -> list[dict[str, Any]]:
    with safe_open(folder / native.FILE, "pt") as file:
        graph = json.loads(bytes(file.get_tensor(GRAPH).tolist()))
    return list(graph["entries"][number]["nodes"])


def same_bits(got: list[Any], wanted: Any) -> bool:
    wanted = wanted if isinstance(wanted, tuple | list) else (wanted,)
    pairs = zip(got, wanted, strict=True)
    return all(str(a.dtype) == str(b.dtype)[6:] and np.array_equal(a, b.numpy()) for a, b in pairs)


def coded(x: Tensor, bits: int, group: int, clip: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    parts: tuple[Tensor, Tensor, Tensor] = ops.quantize_kv(x, bits, group, clip)
    return parts


def attend(x: Tensor, y: Tensor, bits: int, group: int, causal: bool, ends: Tensor | None = None) -> Tensor:
    """Heads of the keys: the first of those of y; values are the rest."""
    keys, values = (coded(part, bits, group) for part in (y[:, :KV_HEADS], y[:, KV_HEADS:]))
    out: Tensor = ops.attention_quantized(x, *keys, *values, ends, bits, group, SIZE**-0.5, causal)
    return out


def attend_symmetric(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """One side without offsets, each in turn; codes are inputs."""
    scales, offsets = z[..., :1].abs() + 0.01, z[..., 1:2]
    plain = ops.attention_quantized(x, y, scales, None, y, scales, offsets, None, 8, 0, 0.1, False)
    out: Tensor = plain + ops.attention_quantized(x, y, scales, offsets, y, scales, None, None, 8, 0, 0.1, True)
    return out


def merge(x: Tensor, y: Tensor, z: Tensor) -> Any:
    """x [batch, heads, tokens, width] is compared, y [batch, tokens, width] merged, z its sizes."""
    counts = torch.tensor([3, 1], dtype=torch.int32)
    plan, left = ops.token_match(x, z, counts, 0, 1)
    all_but_five, _ = ops.token_match(x, None, None, x.shape[2] - 5, 0)
    two, _ = ops.token_match(x[:, :1], z, None, 2, 2)
    some, _ = ops.token_match(x, None, counts, 0, y.shape[1] - 6)
    merged, sizes = ops.token_merge(y, plan, z, y.shape[1] - 1)
    plain, ones = ops.token_merge(y, two, None, y.shape[1] - 2)
    return plan, left, all_but_five, two, some, merged, sizes, plain, ones


def heads(length: int, count: int, seed: int = 0) -> Tensor:
    return torch.randn(2, count, length, SIZE, generator=torch.Generator().manual_seed(length + 100 * seed))


def attention_inputs(length: int) -> tuple[Tensor, ...]:
    return heads(3, HEADS, 1), heads(length, 2 * KV_HEADS)


def merge_inputs(length: int) -> tuple[Tensor, ...]:
    sizes = torch.ones(2, length)
    sizes[0, -2:], sizes[1, 1] = 0, 3
    return heads(length, 3), heads(length, 1, 2)[:, 0].contiguous(), sizes


def symmetric_inputs(length: int) -> tuple[Tensor, ...]:
    codes = torch.randint(0, 256, (2, KV_HEADS, length, SIZE), generator=torch.Generator().manual_seed(length))
    return heads(3, HEADS, 1), codes.to(torch.uint8), heads(length, KV_HEADS, 3)[..., :2].contiguous()


ENDS = torch.tensor([5, 2], dtype=torch.int32)
CASES: dict[str, tuple[Callable[..., Any], Callable[[int], tuple[Tensor, ...]], Mapping[str, int]]] = {
    "codes8": (lambda x: coded(x, 8, 0), lambda n: (heads(n, 3),), {"x": 2}),
    "codes4": (lambda x: coded(x, 4, 16, 0.9), lambda n: (heads(n, 3),), {"x": 2}),
    "codes2_of_odd_heads": (lambda x: coded(x[..., :29], 2, 16), lambda n: (heads(n, 3),), {"x": 2}),
    "attention8": (lambda x, y: attend(x, y, 8, 16, True), attention_inputs, {"y": 2}),
    "attention4": (lambda x, y: attend(x, y, 4, 0, False, ENDS), attention_inputs, {"y": 2}),
    "attention2": (lambda x, y: attend(x[:, :, :1], y, 2, 32, True), attention_inputs, {"y": 2}),
    "attention_of_many_queries": (
        lambda x, y: attend(x, y, 4, 16, True), lambda n: (heads(n, HEADS, 1), heads(n, 2 * KV_HEADS)), {"x": 2, "y": 2}
    ),
    "attention_symmetric": (attend_symmetric, symmetric_inputs, {"y": 2, "z": 2}),
    "merging": (merge, merge_inputs, {"x": 2, "y": 1, "z": 1}),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_ops_give_the_bits_of_torch_at_every_length(name: str, threads: int, tmp_path: Path) -> None:
    function, draw, axes = CASES[name]
    tokens = Dim("tokens", 6, 80)
    made = entry(Function(function), draw(9), {each: {axis: tokens} for each, axis in axes.items()})
    engine = open_entries({"forward": made}, tmp_path, threads)
    for length in (9, 6, 80, 33):
        inputs = draw(length)
        got = engine.run("forward", {n: v.numpy() for n, v in zip("xyz", inputs, strict=False)})
        assert same_bits(got, function(*inputs)), length


def test_slices_of_long_caches_are_joined_in_another_order(tmp_path: Path) -> None:
    """With several threads a long cache is divided among them, so the sums are rounded elsewhere; with one, not."""
    x, y = heads(1, HEADS, 1)[:1], heads(1100, 2 * KV_HEADS)[:1]
    made = {"forward": entry(Function(lambda x, y: attend(x, y, 8, 0, False)), (x, y))}
    wanted = attend(x, y, 8, 0, False)
    one, two = (
        open_entries(made, tmp_path, threads).run("forward", {"x": x.numpy(), "y": y.numpy()})[0] for threads in (1, 2)
    )
    assert same_bits([one], wanted)
    np.testing.assert_allclose(two, wanted.numpy(), rtol=1e-5, atol=1e-6)


class LookupLinear(nn.Module):
    """A layer that our kernel multiplies with, in torch and here."""

    def __init__(self, depth: int, rows: int, bits: int = 4, group: int = 0, dynamic: bool = False) -> None:
        super().__init__()
        self.bits, self.group, self.dynamic = bits, group, dynamic
        palettes = rows // group if group else 1
        self.register_buffer("codes", pack_codes(torch.randint(0, 2**bits, (rows, depth)).to(torch.uint8), bits))
        self.register_buffer("scales", (torch.rand(rows) + 0.5) / depth**0.5)
        self.register_buffer("table", torch.randn(palettes, 2**bits).sort().values)
        self.register_buffer("bias", torch.randn(rows) if group else None)
        self.digest = torch_ops.digest_weights(*self.weights())

    def weights(self) -> tuple[Any, ...]:
        return self.codes, self.scales, self.table, self.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = ops.lookup_linear(x, *self.weights(), self.bits, self.group, self.dynamic, self.digest)
        return y


@pytest.mark.parametrize(
    ("depth", "bits", "group", "dynamic"), [(64, 4, 8, False), (37, 4, 0, True), (37, 2, 4, False), (64, 2, 0, True)]
)
def test_palettes_become_a_linear_layer_of_them(
    depth: int, bits: int, group: int, dynamic: bool, tmp_path: Path
) -> None:
    torch.manual_seed(bits)
    layer, tokens = LookupLinear(depth, 24, bits, group, dynamic), Dim("tokens", 1, 64)
    made = entry(Function(layer), (torch.randn(2, 9, depth),), {"x": {1: tokens}})
    program = lower({"forward": made}, tmp_path)
    (node,) = nodes(tmp_path)
    assert node["op"] == "linear" and node["kind"] == "lookup" and node["bits"] == bits
    assert [(row.op, row.unit) for row in program.delegation] == [("linear", "cpu:ferrule")]
    held = bits if depth % (8 // bits) == 0 else 8  # rows of no whole bytes have an index in each
    scales = 4 * (24 + (24 // group if group else 1) * 2**bits)
    assert next(row for row in program.weights if row.kind == "linear").bytes == 24 * depth * held // 8 + scales
    engine = open_engine(tmp_path / program.main, program.entry_points, 1)
    for length in (9, 1, 64):
        x = torch.randn(2, length, depth)
        assert same_bits(engine.run("forward", {"x": x.numpy()}), layer(x))


class Cache(nn.Module):
    """What `quantize_kv` makes of keys or values."""

    def __init__(self, bits: int, capacity: int) -> None:
        super().__init__()
        self.bits = bits
        for name, part in zip("cso", coded(torch.zeros(1, KV_HEADS, capacity, SIZE), bits, 16), strict=True):
            self.register_buffer(name, torch.zeros_like(part))

    def write(self, positions: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        for name, part in zip("cso", coded(x, self.bits, 16), strict=True):
            getattr(self, name).index_copy_(2, positions, part)
        return self.c, self.s, self.o


class Decoder(nn.Module):
    """ids int64 [1, tokens] -> logits. All that rounds in an order of its own is one of our ops, and products are of
    codes, whose sums are exact however layers are joined: so torch and the program agree to the last bit.

    where: float32 [1, length], as long as the tokens before and these, which attend to that part of the cache; or
    int64 [1], the position of the one token, which attends to the whole cache up to itself.
    """

    def __init__(self, bits: int, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.table, self.bits = nn.Embedding(WORDS, WIDTH), bits
        self.q, self.o = LookupLinear(WIDTH, WIDTH, 4, 16, True), LookupLinear(WIDTH, WIDTH, 2, 0, True)
        self.k, self.v = (LookupLinear(WIDTH, KV_HEADS * SIZE, 4, 16, True) for _ in range(2))
        self.up, self.down = (LookupLinear(*sizes, 4, 0, True) for sizes in ((WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH)))
        self.head = LookupLinear(WIDTH, WORDS, 4, 0, True)
        self.keys, self.values = Cache(bits, capacity), Cache(bits, capacity)

    def forward(self, ids: Tensor, where: Tensor) -> Tensor:
        tokens, is_prompt = ids.shape[1], where.dim() == 2
        positions = torch.arange(tokens) + (where.shape[1] - tokens) if is_prompt else where
        x = self.table(ids)
        q, k, v = (layer(x).view(1, tokens, -1, SIZE).transpose(1, 2) for layer in (self.q, self.k, self.v))
        keys, values = self.keys.write(positions, k), self.values.write(positions, v)
        if is_prompt:
            keys, values = (tuple(part[:, :, : where.shape[1]] for part in each) for each in (keys, values))
        ends = None if is_prompt else (where + 1).to(torch.int32)
        y = ops.attention_quantized(q, *keys, *values, ends, self.bits, 16, SIZE**-0.5, is_prompt)
        x = x + self.o(y.transpose(1, 2).reshape(1, tokens, WIDTH))
        logits: Tensor = self.head(x + self.down(torch.relu(self.up(x))))
        return logits


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_decoder_keeps_a_cache_of_codes_and_gives_the_bits_of_torch(bits: int, tmp_path: Path) -> None:
    torch.manual_seed(bits)
    decoder = Decoder(bits).eval()
    reference = copy.deepcopy(decoder)
    ids = torch.randint(0, WORDS, (1, CAPACITY))
    prompt = EntryPoint(
        decoder,
        {"ids": ids[:, :4], "where": torch.ones(1, 7)},
        {"ids": {1: Dim("tokens", 2, CAPACITY - 1)}, "where": {1: Dim("length", 2, CAPACITY - 1)}},
    )
    decode = EntryPoint(decoder, {"ids": ids[:, :1], "where": torch.tensor([0])})
    engine = open_entries({"prompt": prompt, "decode": decode}, tmp_path)
    found = Counter(node["op"] for node in nodes(tmp_path, 1))
    assert {op: found[op] for op in ("quantize_kv", "write", "attention_quantized")} == {
        "quantize_kv": 2, "write": 6, "attention_quantized": 1,
    }  # fmt: skip
    assert not {"concat", "softmax", "matmul"} & set(found)
    for _ in range(2):
        place, state = 0, copy.deepcopy(reference)
        for count in (6, 1, 1, 9, 1, 21, 1):
            part = ids[:, place : place + count]
            where = torch.tensor([place]) if count == 1 else torch.ones(1, place + count)
            got = engine.run("decode" if count == 1 else "prompt", {"ids": part.numpy(), "where": where.numpy()})
            assert same_bits(got, state(part, where).detach()), place
            place += count
        assert place == CAPACITY
        engine.reset()


def test_the_cache_is_written_where_it_lies(tmp_path: Path) -> None:
    """A decoder's step takes memory for its token alone, whatever the cache holds."""
    from ferrule.runtime import _C

    taken = []
    for capacity in (CAPACITY, 50 * CAPACITY):
        inputs = {"ids": torch.zeros(1, 1, dtype=torch.int64), "where": torch.tensor([3])}
        lower({"decode": EntryPoint(Decoder(8, capacity).eval(), inputs)}, tmp_path)
        program = _C.Program(str(tmp_path / native.FILE))
        program.run("decode", [value.numpy() for value in inputs.values()])
        taken.append(program.memory("decode")["values"])
    assert taken[0] == taken[1]


REFUSED: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...], str, str]] = {
    "bits": (lambda x: coded(x, 4, 8)[0], (heads(5, 2),), "quantize_kv", "codes of 4 bits in groups of 8"),
    "clip": (lambda x: coded(x, 8, 0, 1.5)[0], (heads(5, 2),), "quantize_kv", "a clip of 1.5"),
    "dtype": (
        lambda x: coded(x, 8, 0)[0], (heads(5, 2).long(),), "quantize_kv", "'x' of dtype int64: float32 is needed"
    ),
    "offsets": (
        lambda x, y: ops.attention_quantized(x, y, x[..., :1], None, y, x[..., :1], None, None, 4, 0, 1.0, False),
        (heads(5, 2), torch.zeros(2, 2, 5, 16, dtype=torch.uint8)),
        "attention_quantized", "codes of 4 bits without offsets",
    ),
    "ends": (
        lambda x, y: attend(x, y, 8, 0, False, torch.tensor([1, 2])), attention_inputs(5),
        "attention_quantized", "'key_ends' of dtype int64: int32 is needed",
    ),
    "plan": (
        lambda x: ops.token_merge(x, torch.zeros(2, 5, dtype=torch.int64), None, 3)[0], (heads(5, 2)[:, 0],),
        "token_merge", "'plan' of dtype int64: int32 is needed",
    ),
    "computed_weights": (
        lambda x, y: ops.lookup_linear(x, y, y[:, 0].float(), x[:1, :16], None, 4, 0, False, 0),
        (torch.randn(3, 16), torch.zeros(6, 8, dtype=torch.uint8)), "lookup_linear", "weights that are computed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_kernels_do_not_take_is_refused_by_line(name: str, tmp_path: Path) -> None:
    """Torch would refuse most of these itself; where the outputs are named, it need not run the module."""
    function, inputs, op, lacks = REFUSED[name]
    place = r"converters/test_native_kernels\.py:\d+"
    message = rf"FER-LOW-001: Op ferrule\.{op} at {place} is used, and native programs lack {lacks}"
    with pytest.raises(LoweringError, match=message):
        lower({"forward": replace(entry(Function(function), inputs), outputs=("out",))}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda layer: layer.codes.bitwise_xor_(1), "weights of another digest"),
        (lambda layer: setattr(layer, "bits", 3), "palettes of 3 bits"),
        (lambda layer: setattr(layer, "group", 5), r"weights of shapes .* are needed"),
        (lambda layer: setattr(layer, "scales", torch.ones(3)), r"weights of shapes .* are needed"),
    ],
)
def test_palettes_that_do_not_fit_are_refused(
    spoil: Callable[[LookupLinear], Any], message: str, tmp_path: Path
) -> None:
    layer = LookupLinear(16, 24)
    spoil(layer)
    with pytest.raises(LoweringError, match=f"FER-LOW-001.*lookup_linear.*{message}"):
        made = entry(Function(layer), (torch.randn(2, 16),))
        lower({"forward": replace(made, outputs=("out",))}, tmp_path)


def test_values_out_of_range_are_refused_while_it_runs(tmp_path: Path) -> None:
    """A cache's end beyond its keys, a plan beyond what is left, a negative number of merges."""
    x, y = attention_inputs(5)
    functions: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
        "ends": (lambda x, y, z: attend(x, y, 8, 0, False, z), (x, y, torch.tensor([5, 2], dtype=torch.int32))),
        "plan": (
            lambda x, y: ops.token_merge(x, y, None, 2),
            (x[:, 0].contiguous(), torch.ones(2, 3, dtype=torch.int32)),
        ),
        "counts": (lambda x, y: ops.token_match(x, None, y, 0, 0), (x, torch.ones(2, dtype=torch.int32))),
    }
    engine = open_entries({name: entry(Function(f), inputs) for name, (f, inputs) in functions.items()}, tmp_path)
    for name, (_, inputs) in functions.items():
        arrays = {n: v.numpy() for n, v in zip("xyz", inputs, strict=False)}
        engine.run(name, arrays)
        whole = "z" if name == "ends" else "y"
        for wrong in (-1, 9) if name != "counts" else (-1,):
            with pytest.raises(ProgramError, match="FER-NAT-008"):
                engine.run(name, arrays | {whole: np.full_like(arrays[whole], wrong)})
