"""Palettes: the k-means, its weights, and the codec that comes out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from ferrule.codec import Lookup, decode, encode_affine, stored_bytes
from ferrule.coded import ACTIVATION_NONE, CodedLinear
from ferrule.palette import encode_lookup, rows_per_palette


def make_weight(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    heavy = torch.randn(rows, columns, generator=generator) ** 3 * 0.01
    return heavy + torch.randn(rows, columns, generator=generator) * 0.05


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("group", [0, 1, 4])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_codec_is_well_formed_and_near(bits: int, group: int, scaled: bool) -> None:
    weight = make_weight(12, 50)
    codec = encode_lookup(weight, bits, group, scaled)
    palettes = 12 // group if group else 1
    assert codec.codes.dtype == torch.uint8 and codec.codes.shape == (12, 50) and int(codec.codes.max()) < 2**bits
    assert codec.table.shape == (palettes, 2**bits) and codec.scales.shape == (12, 1)
    assert torch.equal(codec.table, codec.table.half().float()) and bool((codec.table.diff(dim=1) >= 0).all())
    assert torch.equal(codec.scales, codec.scales.half().float()) and bool((codec.scales == 1).all()) != scaled
    error = float((decode(codec) - weight).square().mean() / weight.square().mean())
    assert error < {1: 0.6, 2: 0.25, 3: 0.1, 4: 0.04, 6: 0.004, 8: 0.001}[bits]


def test_each_weight_takes_its_nearest_value() -> None:
    weight = make_weight(6, 40)
    codec = encode_lookup(weight, 3, 2)
    for row in range(6):
        palette = codec.table[row // 2]
        distance = (weight[row, :, None] - palette).abs()
        chosen = distance.gather(1, codec.codes[row].long()[:, None])[:, 0]
        assert torch.allclose(chosen, distance.amin(1), atol=1e-6)


def test_it_finds_the_least_error_of_all_partitions() -> None:
    values = torch.tensor([-3.0, -2.5, -0.2, 0.0, 0.1, 1.5, 1.75, 4.0])
    found = float((decode(encode_lookup(values[None], 2)) - values).square().sum())
    best = min(
        sum(float((part - part.mean()).square().sum()) for part in torch.tensor_split(values, cuts))
        for cuts in itertools.combinations(range(1, 8), 3)
    )
    assert found <= best + 1e-4


def test_few_distinct_values_are_kept_exactly() -> None:
    values = torch.tensor([-1.0, 0.0, 0.5, 2.0])
    weight = values[torch.randint(4, (8, 33), generator=torch.Generator().manual_seed(1))]
    assert torch.equal(decode(encode_lookup(weight, 2)), weight)
    assert torch.equal(decode(encode_lookup(torch.zeros(4, 4), 4)), torch.zeros(4, 4))


def test_importance_lowers_the_error_that_it_weighs() -> None:
    weight, importance = make_weight(16, 64), torch.linspace(0.01, 1, 64) ** 3
    plain, weighed = (decode(encode_lookup(weight, 2, importance=i)) for i in (None, importance))

    def error(restored: Tensor) -> float:
        return float(((restored - weight).square() * importance).sum())

    assert error(weighed) < error(plain)


def test_palettes_beat_even_steps_on_heavy_tails() -> None:
    weight = make_weight(64, 256)
    palette = decode(encode_lookup(weight, 4, 0))
    even = decode(encode_affine(weight, 4, 0, "mse"))
    assert (palette - weight).square().sum() < (even - weight).square().sum()


@pytest.mark.parametrize(
    ("rows", "group", "used"), [(384, 16, 16), (10, 16, 0), (10, 4, 2), (7, 4, 1), (7, 16, 0), (101, 16, 0), (8, 8, 0)]
)
def test_groups_divide_the_rows(rows: int, group: int, used: int) -> None:
    assert rows_per_palette(rows, group) == used


def test_bytes_count_codes_palettes_and_scales() -> None:
    weight = make_weight(32, 64)
    assert stored_bytes(encode_lookup(weight, 4, 16)) == 32 * 64 // 2 + 2 * 16 * 2
    assert stored_bytes(encode_lookup(weight, 4, 0, scaled=True)) == 32 * 64 // 2 + 16 * 2 + 32 * 2


def test_a_coded_layer_computes_with_its_palette() -> None:
    codec = encode_lookup(make_weight(8, 20), 4, 4, True)
    layer = CodedLinear(codec, torch.ones(8), ACTIVATION_NONE)
    x = torch.randn(2, 3, 20)
    assert torch.allclose(layer(x), torch.nn.functional.linear(x, decode(codec), torch.ones(8)), atol=1e-5)
    assert isinstance(layer.codec, Lookup) and torch.equal(layer.codec.table, codec.table)
