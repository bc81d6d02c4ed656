"""Lowering decoders to native programs: what their parts become, caches as states, entry points that share weights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

import ferrule
from ferrule.converters import native
from ferrule.converters.native_file import GRAPH
from ferrule.device_profiles import load
from ferrule.errors import LoweringError
from ferrule.model import Dim, EntryPoint, Model, as_model, capture
from ferrule.runtime.engines.native import NativeEngine, open_engine

WIDTH, HEADS, KV_HEADS, SIZE, HIDDEN, WORDS, CAPACITY = 64, 4, 2, 16, 128, 96, 24


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cosines + torch.cat((-x[..., half:], x[..., :half]), -1) * sines


class Norm(nn.Module):
    """As transformers writes Llama's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(WIDTH) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


class Layer(nn.Module):
    """Llama's block, with grouped heads that are repeated and a mask that is added; or with a cache."""

    keys: Tensor
    values: Tensor

    def __init__(self, cached: bool) -> None:
        super().__init__()
        self.cached = cached
        self.q = nn.Linear(WIDTH, HEADS * SIZE, bias=False)
        self.k, self.v = (nn.Linear(WIDTH, KV_HEADS * SIZE, bias=False) for _ in range(2))
        self.o = nn.Linear(HEADS * SIZE, WIDTH, bias=False)
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.before, self.after = Norm(), Norm()
        for name in ("keys", "values") if cached else ():
            self.register_buffer(name, torch.zeros(1, KV_HEADS, CAPACITY, SIZE))

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor], mask: Tensor, positions: Tensor) -> Tensor:
        y = self.before(x)
        q, k, v = (layer(y).view(1, x.shape[1], -1, SIZE).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = rotate(q, *tables), rotate(k, *tables)
        if self.cached:
            self.keys.index_copy_(2, positions, k)
            self.values.index_copy_(2, positions, v)
            k, v = self.keys, self.values
        groups = (1, KV_HEADS, HEADS // KV_HEADS, k.shape[2], SIZE)
        k, v = (each[:, :, None].expand(groups).reshape(1, HEADS, -1, SIZE) for each in (k, v))
        weights = (q @ k.transpose(2, 3) * SIZE**-0.5 + mask).softmax(-1)
        x = x + self.o((weights @ v).transpose(1, 2).reshape(1, -1, HEADS * SIZE))
        y = self.after(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Decoder(nn.Module):
    """ids int64 [1, tokens], position int64 [1] of the first -> logits [1, tokens, words], by the embedding's table."""

    rates: Tensor

    def __init__(self, cached: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(Layer(cached) for _ in range(2))
        self.norm, self.head = Norm(), nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("rates", 100.0 ** -torch.linspace(0, 1, SIZE // 2))
        self.cached = cached

    def forward(self, ids: Tensor, position: Tensor) -> Tensor:
        tokens = torch.arange(ids.shape[1])
        positions = tokens + position if self.cached else tokens
        seen = (
            torch.arange(CAPACITY if self.cached else ids.shape[1])[None, None, None] <= positions[None, None, :, None]
        )
        mask = torch.where(seen, torch.zeros(()), torch.finfo(torch.float32).min)
        angles = (positions[:, None].float() * self.rates).repeat(1, 2)[None, None]
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x, (angles.cos(), angles.sin()), mask, positions)
        return self.head(self.norm(x))


def graph_of(folder: Path) -> dict[str, Any]:
    with safe_open(folder / native.FILE, "pt") as file:
        return dict(json.loads(bytes(file.get_tensor(GRAPH).tolist())))


def ops(folder: Path, entry: int = 0) -> Counter[str]:
    return Counter(node["op"] for node in graph_of(folder)["entries"][entry]["nodes"])


def open_model(model: Model, folder: Path) -> NativeEngine:
    program = native.lower(capture(model), load("raspberry-pi-5"), folder)
    return open_engine(folder / program.main, program.entry_points, 1)


def draw_ids(tokens: int) -> Tensor:
    return torch.randint(0, WORDS, (1, tokens), generator=torch.Generator().manual_seed(tokens))


@pytest.fixture
def plain() -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(False)
    decoder.eval()
    return decoder


def test_each_part_of_a_decoder_becomes_one_op(plain: Decoder, tmp_path: Path) -> None:
    inputs = {"ids": draw_ids(9), "position": torch.tensor([0])}
    engine = open_model(as_model(plain, inputs, {"ids": {1: Dim("tokens", 2, 40)}}), tmp_path)
    found = ops(tmp_path)
    wanted = {"linear": 9, "rms_norm": 5, "rope": 2, "attention": 2, "activate": 2, "embedding": 1, "unary": 2}
    assert {op: found[op] for op in wanted} == wanted
    assert not {"softmax", "matmul", "permute", "expand", "where", "compare", "concat", "slice"} & set(found)
    nodes = graph_of(tmp_path)["entries"][0]["nodes"]
    for node in nodes:
        if node["op"] == "attention":
            assert node["layout"] == "qkv" and node["kv_heads"] == KV_HEADS and node["causal"] and not node["mask"]
    weights = {node["weight"] for node in nodes if node["op"] == "embedding"}
    assert weights == {node["weight"] for node in nodes[-1:]}  # the table is the file's once
    for tokens in (9, 2, 33):
        ids = draw_ids(tokens)
        with torch.no_grad():
            want = plain(ids, torch.tensor([0]))
        got = engine.run("forward", {"ids": ids.numpy(), "position": np.array([0])})[0]
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", ["w8a8", "w4g32", "lut4"])
def test_joined_products_of_every_codec_agree(recipe: str, plain: Decoder, tmp_path: Path) -> None:
    inputs = {"ids": draw_ids(20), "position": torch.tensor([0])}
    model = ferrule.compress(as_model(plain, inputs), recipe)
    engine = open_model(model, tmp_path)
    assert ops(tmp_path)["linear"] == 9
    with torch.no_grad():
        want = model.entry_points["forward"].module(*inputs.values())
    got = torch.from_numpy(engine.run("forward", {name: value.numpy() for name, value in inputs.items()})[0])
    assert functional.cosine_similarity(got.flatten(), want.flatten(), 0) > 0.999


def test_prefill_and_decode_share_weights_and_a_cache_that_is_written_in_place(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, reference = Decoder(True).eval(), Decoder(False).eval()
    reference.load_state_dict({k: v for k, v in module.state_dict().items() if "keys" not in k and "values" not in k})
    position = torch.tensor([0])
    prefill = EntryPoint(module, {"ids": draw_ids(6), "position": position}, {"ids": {1: Dim("tokens", 2, 20)}})
    decode = EntryPoint(module, {"ids": draw_ids(1), "position": position})
    folders = [tmp_path / name for name in ("decode", "both")]
    for folder, entries in zip(folders, ({"decode": decode}, {"prefill": prefill, "decode": decode}), strict=True):
        folder.mkdir()
        engine = open_model(Model(entries, source="test"), folder)
        assert len(graph_of(folder)["states"]) == 4
        assert ops(folder, len(entries) - 1)["write"] == 4
    one, both = (weight_bytes(folder) for folder in folders)
    assert both < 1.01 * one  # what prefill makes of the weights is what decode has
    ids = draw_ids(12)
    for _ in range(2):
        got = [engine.run("prefill", {"ids": ids[:, :5].numpy(), "position": np.array([0])})[0]]
        for place in range(5, 12):
            got.append(
                engine.run("decode", {"ids": ids[:, place : place + 1].numpy(), "position": np.array([place])})[0]
            )
        with torch.no_grad():
            want = reference(ids, position)
        np.testing.assert_allclose(np.concatenate(got, 1), want.numpy(), rtol=1e-4, atol=1e-5)
        engine.reset()


def weight_bytes(folder: Path) -> int:
    from ferrule.runtime import _C

    program = _C.Program(str(folder / native.FILE))
    return int(program.memory(next(iter(program.entries)))["weights"])


class Buffered(nn.Module):
    """Writes its input into a buffer in one of torch's ways and returns the buffer."""

    buffer: Tensor

    def __init__(self, write: Callable[[Tensor, Tensor], Any], rows: int = 5) -> None:
        super().__init__()
        self.write = write
        self.register_buffer("buffer", torch.arange(4.0 * rows).reshape(1, rows, 4))

    def forward(self, x: Tensor) -> Tensor:
        self.write(self.buffer, x)
        return self.buffer * 1.5


def _shift(buffer: Tensor, x: Tensor) -> Any:
    return buffer.copy_(torch.cat([buffer[:, 2:], x], 1))


WRITES: Mapping[str, Callable[[Tensor, Tensor], Any]] = {
    "slice": lambda buffer, x: buffer[:, 1:3].copy_(x),
    "row": lambda buffer, x: buffer[:, -2].copy_(x[:, 0]),
    "indices": lambda buffer, x: buffer.__setitem__((slice(None), torch.tensor([4, 0])), x),
    "broadcast": lambda buffer, x: buffer.__setitem__((slice(None), torch.tensor([4, 0])), x[:, :1]),
    "index_copy": lambda buffer, x: buffer.index_copy_(1, torch.tensor([3, 1]), x),
    "shift": _shift,
    "whole": lambda buffer, x: buffer.copy_(torch.cat([x, x, x[:, :1]], 1)),
}


@pytest.mark.parametrize("name", WRITES)
def test_parts_of_a_buffer_are_written(name: str, tmp_path: Path) -> None:
    x = torch.randn(1, 2, 4)
    module, reference = Buffered(WRITES[name]), Buffered(WRITES[name])
    engine = open_model(as_model(module, {"x": x}), tmp_path)
    for _ in range(3):
        np.testing.assert_allclose(engine.run("forward", {"x": x.numpy()})[0], reference(x).numpy(), rtol=1e-6)
        x = torch.randn(1, 2, 4)


class Exchange(nn.Module):
    """Two buffers that take each other's place."""

    a: Tensor
    b: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("a", torch.zeros(3))
        self.register_buffer("b", torch.arange(3.0))

    def forward(self, x: Tensor) -> Tensor:
        before = self.a.clone()
        self.a.copy_(self.b)
        self.b.copy_(before)
        return self.a + x


def test_two_states_exchange_their_contents(tmp_path: Path) -> None:
    x, reference = torch.ones(3), Exchange()
    engine = open_model(as_model(Exchange(), {"x": x}), tmp_path)
    for _ in range(4):
        np.testing.assert_array_equal(engine.run("forward", {"x": x.numpy()})[0], reference(x).numpy())


def test_buffers_of_one_name_that_differ_are_refused(tmp_path: Path) -> None:
    x = torch.ones(1, 2, 4)
    entries = {str(rows): EntryPoint(Buffered(WRITES["slice"], rows), {"x": x}) for rows in (5, 6)}
    with pytest.raises(LoweringError, match="FER-LOW-001: Buffer 'buffer' is another one in each of two entry points"):
        open_model(Model(entries, source="test"), tmp_path)
