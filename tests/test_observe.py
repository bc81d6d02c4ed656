"""Static ranges: what calibration sees, and how a range is clipped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ferrule.codec import Range, encode_affine
from ferrule.coded import ACTIVATION_STATIC, CodedLinear, quantize_range
from ferrule.model import as_model
from ferrule.observe import choose_range, observe_ranges
from ferrule.techniques.quant.layers import Choice


def histogram(values: torch.Tensor, bins: int = 2048) -> tuple[torch.Tensor, float, float]:
    low, high = float(values.min()), float(values.max())
    return torch.histc(values, bins, low, high).double(), low, high


@pytest.mark.parametrize(("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-4.0, -1.0), (0.0, 0.0), (-1e-9, 1e-9)])
def test_a_range_holds_zero_exactly_and_its_ends_nearly(low: float, high: float) -> None:
    found = Range.between(low, high)
    assert -128 <= found.zero_point <= 127 and found.scale >= 2**-14
    assert float(torch.tensor(found.scale).half()) == found.scale
    ends = quantize_range(torch.tensor([0.0, low, high]), found.scale, found.zero_point)
    assert ends[0] == 0
    assert torch.allclose(ends[1:], torch.tensor([low, high]), atol=found.scale)


def test_minmax_keeps_the_extremes_and_the_others_clip_outliers() -> None:
    values = torch.cat([torch.randn(100_000, generator=torch.Generator().manual_seed(0)), torch.tensor([60.0])])
    counts, low, high = histogram(values)
    whole = choose_range(counts, low, high, "minmax", 100)
    percentile = choose_range(counts, low, high, "percentile", 99.9)
    squared = choose_range(counts, low, high, "mse", 100)
    assert whole.scale == pytest.approx((high - low) / 255, rel=1e-3)
    assert percentile.scale < squared.scale < whole.scale

    def error(found: Range) -> float:
        return float((quantize_range(values, found.scale, found.zero_point) - values).square().mean())

    assert error(squared) < min(error(whole), error(percentile))


def test_layers_that_read_one_tensor_get_one_range() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.out(self.q(x) * self.k(x))
            return y

    torch.manual_seed(0)
    module = Shared()
    model = as_model(module.eval(), (torch.randn(2, 8),))
    data = [{"x": torch.randn(2, 8)} for _ in range(20)]
    ranges = observe_ranges(model, data, Choice(), "minmax", 100, lambda module: isinstance(module, nn.Linear))
    assert ranges[id(module.q)][0] == ranges[id(module.k)][0] != ranges[id(module.out)][0]
    seen = torch.cat([d["x"] for d in data])
    assert ranges[id(module.q)][0] == Range.between(float(seen.min()), float(seen.max()))
    with torch.no_grad():
        outputs = torch.cat([module.q(d["x"]) for d in data])
    assert ranges[id(module.q)][1].scale == pytest.approx(float(outputs.max() - outputs.min()) / 255, rel=1e-3)


def test_a_static_layer_rounds_inputs_and_outputs() -> None:
    linear = nn.Linear(12, 5)
    codec = encode_affine(linear.weight, 8)
    ranges = Range.between(-2, 2), Range.between(-1, 3)
    layer = CodedLinear(codec, linear.bias, ACTIVATION_STATIC, ranges)
    x = torch.randn(3, 12)
    y = layer(x)
    inner = nn.functional.linear(quantize_range(x, *layer.ranges[:2]), layer.weight, layer.bias)
    assert torch.equal(y, quantize_range(inner, *layer.ranges[2:]))
    steps = y / ranges[1].scale
    assert torch.allclose(steps, steps.round(), atol=1e-3) and float(y.abs().max()) <= 3.1
