"""Codecs: the arithmetic of codes and scales, and the ops that carry them through torch.export."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ferrule.codec import Affine, decode, encode_affine, spread_scales, stored_bytes
from ferrule.coded import ACTIVATION_DYNAMIC, ACTIVATION_NONE, CodedEmbedding, CodedLinear, quantize_rows

SHAPES = [(1, 1), (3, 32), (5, 33), (7, 100), (16, 64)]
CODINGS = [(8, 0), (4, 0), (4, 32), (8, 32), (4, 16)]


def make_weight(rows: int, columns: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    weight[:, ::7] *= 4  # outliers, which clipping can trade against resolution
    return weight


def group_errors(weight: Tensor, codec: Affine, importance: Tensor | None = None) -> Tensor:
    """Squared error of each group [rows, groups] in float64."""
    error = (weight.double() - decode(codec).double()).square()
    if importance is not None:
        error = error * importance.double()
    width = codec.group or weight.shape[1]
    padded = nn.functional.pad(error, (0, -weight.shape[1] % width))
    return padded.view(weight.shape[0], -1, width).sum(-1)


@pytest.mark.parametrize(("bits", "group"), CODINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_round_to_nearest_is_within_half_a_step(shape: tuple[int, int], bits: int, group: int) -> None:
    weight = make_weight(*shape)
    codec = encode_affine(weight, bits, group)
    rows, columns = shape
    assert codec.codes.dtype == torch.int8 and codec.codes.shape == shape and codec.codes.is_contiguous()
    assert int(codec.codes.min()) >= -(2 ** (bits - 1)) and int(codec.codes.max()) <= 2 ** (bits - 1) - 1
    width = group or columns
    assert codec.scales.dtype == torch.float32 and codec.scales.shape == (rows, -(-columns // width))
    assert codec.group == (group if group < columns else 0)
    step = spread_scales(codec.scales, columns, codec.group)
    assert bool(((weight - decode(codec)).abs() <= 0.5001 * step).all())


@pytest.mark.parametrize("rounding", ["rtn", "mse"])
@pytest.mark.parametrize(("bits", "group"), CODINGS)
def test_scales_are_exact_in_the_precisions_that_targets_keep(bits: int, group: int, rounding: str) -> None:
    for scale in (1e-9, 1e-5, 0.02, 1.0, 3e4):
        codec = encode_affine(make_weight(6, 80) * scale, bits, group, rounding)
        assert torch.equal(codec.scales.half().float(), codec.scales)
        if codec.group:
            assert torch.equal(codec.scales.bfloat16().float(), codec.scales)
        assert bool((codec.scales > 0).all()) and bool(codec.scales.isfinite().all())


@pytest.mark.parametrize(("bits", "group"), CODINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_mse_is_nowhere_worse_than_rtn(shape: tuple[int, int], bits: int, group: int) -> None:
    weight = make_weight(*shape)
    plain = group_errors(weight, encode_affine(weight, bits, group, "rtn"))
    searched = group_errors(weight, encode_affine(weight, bits, group, "mse"))
    assert bool((searched <= plain * (1 + 1e-5) + 1e-12).all())


def test_mse_lowers_the_error_of_int4_groups() -> None:
    weight = make_weight(64, 128)
    plain = group_errors(weight, encode_affine(weight, 4, 32, "rtn")).sum()
    assert group_errors(weight, encode_affine(weight, 4, 32, "mse")).sum() < 0.95 * plain


def test_importance_moves_the_error_to_columns_that_matter_less() -> None:
    weight = make_weight(32, 64)
    importance = torch.ones(64)
    importance[:8] = 100
    plain = encode_affine(weight, 4, 32, "mse")
    weighed = encode_affine(weight, 4, 32, "mse", importance)
    assert group_errors(weight, weighed, importance).sum() < group_errors(weight, plain, importance).sum()
    assert not torch.equal(weighed.codes, plain.codes)
    # A constant importance is no importance.
    assert torch.equal(encode_affine(weight, 4, 32, "mse", torch.ones(64)).codes, plain.codes)


def test_importance_of_zero_everywhere_is_survived() -> None:
    codec = encode_affine(make_weight(4, 64), 4, 32, "mse", torch.zeros(64))
    assert bool(decode(codec).isfinite().all())


@pytest.mark.parametrize("rounding", ["rtn", "mse"])
def test_a_row_of_zeros_stays_zero(rounding: str) -> None:
    weight = make_weight(3, 64)
    weight[1] = 0
    codec = encode_affine(weight, 4, 32, rounding)
    assert bool((decode(codec)[1] == 0).all()) and bool((codec.scales[1] > 0).all())


def test_a_last_group_that_is_short_has_a_scale_of_its_own() -> None:
    weight = torch.ones(2, 33)
    weight[:, 32] = 1000
    codec = encode_affine(weight, 4, 32)
    assert codec.scales.shape == (2, 2)
    assert torch.allclose(decode(codec), weight, rtol=1e-2)


def test_weights_beyond_the_largest_scale_are_clipped_not_lost() -> None:
    for bits, group in CODINGS:
        codec = encode_affine(torch.full((2, 64), 1e30), bits, group)
        assert bool(decode(codec).isfinite().all()) and float(decode(codec).min()) > 4e5


def test_an_unknown_rounding_is_refused_with_those_allowed() -> None:
    with pytest.raises(ValueError, match="'up'; allowed: rtn, mse"):
        encode_affine(make_weight(2, 4), 8, rounding="up")


def test_encoding_is_deterministic_and_leaves_the_weight_alone() -> None:
    weight = nn.Parameter(make_weight(9, 70))
    before = weight.detach().clone()
    first, second = encode_affine(weight, 4, 32, "mse"), encode_affine(weight, 4, 32, "mse")
    assert torch.equal(first.codes, second.codes) and torch.equal(first.scales, second.scales)
    assert torch.equal(weight.detach(), before) and not first.scales.requires_grad


def test_stored_bytes_counts_packed_codes_and_scales() -> None:
    assert stored_bytes(encode_affine(make_weight(4, 64), 8)) == 4 * 64 + 4 * 2
    assert stored_bytes(encode_affine(make_weight(4, 64), 4, 32)) == 4 * 64 // 2 + 4 * 2 * 2
    assert stored_bytes(encode_affine(make_weight(1, 3), 4), scale_bytes=4) == 2 + 4


def test_quantized_rows_are_close_and_zero_is_exact() -> None:
    x = make_weight(6, 50) + 3
    x[0] = 0
    codes, scale, zero = quantize_rows(x)
    assert bool((codes == codes.round()).all()) and float(codes.min()) >= -128 and float(codes.max()) <= 127
    restored = (codes - zero) * scale
    assert bool(((restored - x).abs() <= 1.001 * scale).all())
    assert bool((restored[0] == 0).all())
    x[3, 5] = 0
    codes, scale, zero = quantize_rows(x)
    assert float(((codes - zero) * scale)[3, 5]) == 0


def test_an_outlier_in_one_row_does_not_touch_the_others() -> None:
    x = make_weight(2, 64)
    plain = quantize_rows(x)[0][0]
    x[1, 0] = 1e4
    assert torch.equal(quantize_rows(x)[0][0], plain)


@pytest.mark.parametrize("activation", [ACTIVATION_NONE, ACTIVATION_DYNAMIC])
@pytest.mark.parametrize(("bits", "group"), [(8, 0), (4, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_coded_linear_computes_what_its_codec_says(bits: int, group: int, bias: bool, activation: int) -> None:
    linear = nn.Linear(70, 9, bias=bias)
    coded = CodedLinear(encode_affine(linear.weight, bits, group), linear.bias, activation)
    x = torch.randn(2, 5, 70)
    if activation == ACTIVATION_DYNAMIC:
        codes, scale, zero = quantize_rows(x)
        expected = nn.functional.linear((codes - zero) * scale, coded.weight, coded.bias)
    else:
        expected = nn.functional.linear(x, coded.weight, coded.bias)
    assert torch.allclose(coded(x), expected, atol=1e-5)
    assert not list(coded.parameters())


def test_coded_embedding_returns_decoded_rows() -> None:
    embedding = nn.Embedding(50, 24)
    coded = CodedEmbedding(encode_affine(embedding.weight, 8))
    indices = torch.tensor([[3, 3, 49], [0, 1, 2]])
    assert torch.equal(coded(indices), coded.weight[indices])
    assert torch.allclose(coded(indices), embedding(indices), atol=0.05)


class Coded(nn.Module):
    """An embedding and two linear layers, all coded."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.table = CodedEmbedding(encode_affine(torch.randn(40, 16, generator=generator), 8))
        self.up = CodedLinear(encode_affine(torch.randn(32, 16, generator=generator), 8), None, ACTIVATION_DYNAMIC)
        self.down = CodedLinear(encode_affine(torch.randn(4, 32, generator=generator), 4, 16), torch.ones(4), 0)

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.down(torch.relu(self.up(self.table(ids))))
        return y


def test_coded_ops_export_whole_and_keep_a_dynamic_axis() -> None:
    module = Coded().eval()
    tokens = torch.export.Dim("tokens", min=2, max=64)
    ids = torch.arange(6)[None]
    program = torch.export.export(module, (ids,), dynamic_shapes=({1: tokens},))
    called = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert sum("ferrule.coded_linear" in name for name in called) == 2
    assert sum("ferrule.coded_embedding" in name for name in called) == 1
    assert not any("aten.linear" in name or "aten.embedding" in name for name in called)
    for length in (2, 17, 64):
        ids = torch.arange(length)[None] % 40
        assert torch.equal(program.module()(ids), module(ids))
    assert {k: v.dtype for k, v in program.state_dict.items() if k.endswith("codes")} == {
        "table.codes": torch.int8,
        "up.codes": torch.int8,
        "down.codes": torch.int8,
    }


@pytest.mark.parametrize("op", ["coded_linear", "coded_embedding"])
def test_fake_kernels_agree_with_the_real_ones(op: str) -> None:
    codec = encode_affine(make_weight(9, 70), 4, 32)
    arguments = {
        "coded_linear": (torch.randn(2, 3, 70), codec.codes, codec.scales, None, torch.zeros(9), 4, 32, 1, []),
        "coded_embedding": (torch.tensor([[1, 8, 0]]), codec.codes, codec.scales, None, 4, 32),
    }
    failures = torch.library.opcheck(
        getattr(torch.ops.ferrule, op).default,
        arguments[op],
        test_utils=("test_schema", "test_faketensor"),
    )
    assert set(failures.values()) == {"SUCCESS"}
