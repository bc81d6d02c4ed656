"""Watch a model's linear layers, or others, over calibration inputs and choose the range of each input and output.

Two runs over the data: the first finds the extremes, the second fills a histogram between them. Layers that read the
same tensor (queries, keys and values) see the same values and so get the same range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ferrule.codec import Range
from ferrule.model import Model, unchanged

if TYPE_CHECKING:
    from ferrule.techniques.quant.layers import Choice

__all__ = ["choose_range", "observe_ranges"]

BINS = 2048
_SHRINKS = 64  # clipped ranges tried on either side


@dataclass
class _Seen:
    """One tensor's values: extremes, then counts [BINS] between them."""

    low: float = 0.0
    high: float = 0.0
    counts: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.float64))

    def stretch(self, x: Tensor) -> None:
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))

    def count(self, x: Tensor) -> None:
        if self.high > self.low:
            self.counts += torch.histc(x.float(), BINS, self.low, self.high).double()


def observe_ranges(
    model: Model,
    data: Sequence[Mapping[str, Tensor]],
    choice: Choice,
    method: str,
    percentile: float,
    matches: Callable[[nn.Module], bool],
) -> dict[int, tuple[Range, Range]]:
    """Ranges of the input and output of each chosen layer that matches, by id(layer); one that never ran has none."""
    module = model.entry_points[model.policy.entry_point].module
    layers = [m for name, m in module.named_modules() if matches(m) and name in choice]
    seen: dict[int, tuple[_Seen, _Seen]] = {id(layer): (_Seen(), _Seen()) for layer in layers}
    ran: set[int] = set()

    def stretch(layer: nn.Module, x: Tensor, y: Tensor) -> None:
        ran.add(id(layer))
        seen[id(layer)][0].stretch(x)
        seen[id(layer)][1].stretch(y)

    def count(layer: nn.Module, x: Tensor, y: Tensor) -> None:
        seen[id(layer)][0].count(x)
        seen[id(layer)][1].count(y)

    for look in (stretch, count):
        with torch.no_grad(), unchanged(module), _watching(layers, look):
            for inputs in data:
                module(*(value.clone() for value in inputs.values()))
    return {
        key: (
            choose_range(x.counts, x.low, x.high, method, percentile),
            choose_range(y.counts, y.low, y.high, method, percentile),
        )
        for key, (x, y) in seen.items()
        if key in ran
    }


@contextmanager
def _watching(layers: list[nn.Module], look: Callable[[nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        look(layer, args[0].detach(), output.detach())

    hooks = [layer.register_forward_hook(hook) for layer in layers]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def choose_range(counts: Tensor, low: float, high: float, method: str, percentile: float) -> Range:
    """The range for values whose histogram between `low` and `high` is `counts` float64 [bins]."""
    total = float(counts.sum())
    if method == "minmax" or total == 0:
        return Range.between(low, high)
    width = (high - low) / len(counts)
    centres = low + (torch.arange(len(counts), dtype=torch.float64) + 0.5) * width
    if method == "percentile":
        share = counts.cumsum(0) / total
        tail = 1 - percentile / 100
        first = int(torch.searchsorted(share, tail))
        last = int(torch.searchsorted(share, 1 - tail))
        return Range.between(low + first * width, low + (min(last, len(counts) - 1) + 1) * width)
    best, best_error = Range.between(low, high), float("inf")
    for step in range(_SHRINKS):
        keep = 1 - step / _SHRINKS
        for clipped in {(low * keep, high * keep), (low, high * keep), (low * keep, high)}:
            candidate = Range.between(*clipped)
            error = float((counts * _rounding_error(centres, candidate)).sum())
            if error < best_error:
                best, best_error = candidate, error
    return best


def _rounding_error(values: Tensor, candidate: Range) -> Tensor:
    """Squared error of int8: that of clipping where a value lies outside, else a uniform one."""
    low = (-128 - candidate.zero_point) * candidate.scale
    high = (127 - candidate.zero_point) * candidate.scale
    outside = (values - values.clamp(low, high)).square()
    return outside + candidate.scale**2 / 12
