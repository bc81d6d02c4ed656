"""Palettes: choose the few values that a matrix's weights are rounded to, by k-means weighed by sensitivity.

In one dimension k-means needs no distances: over sorted weights a cluster is a run, its sums are differences of prefix
sums, and its borders lie half-way between neighbouring centres. One round over a million weights costs a sort's lookup
of fifteen borders.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ferrule.codec import Lookup

__all__ = ["encode_lookup", "rows_per_palette"]

ROUNDS = 60
_SMALLEST_SCALE = 2.0**-14  # the smallest normal float16


def encode_lookup(
    weight: Tensor, bits: int, group: int = 0, scaled: bool = False, importance: Tensor | None = None
) -> Lookup:
    """Encode a matrix [rows, columns] as indices into palettes of 2^bits values, one for each `group` rows (0: one).

    scaled: divide each row by its largest weight first, so that rows share a palette whatever their size.
    importance: float [columns], the sensitivity of the layer's output to an error in each column: the mean square of
    the input there, which makes the weighted squared error that of the output (SqueezeLLM weighs by Fisher
    information in the same way).
    """
    rows, columns = weight.shape
    group = rows_per_palette(rows, group)
    plain = weight.detach().float()
    scales = torch.ones(rows, 1)
    if scaled:
        scales = plain.abs().amax(1, keepdim=True).clamp_min(_SMALLEST_SCALE).half().float()
    columns_weight = torch.ones(columns) if importance is None else importance.float()
    columns_weight = columns_weight / columns_weight.mean().clamp_min(1e-20) + 1e-6
    palettes = rows // group if group else 1
    values = (plain / scales).view(palettes, -1)
    weights = (columns_weight * scales.square() / scales.square().mean()).view(palettes, -1)
    table = _cluster(values, weights, 2**bits)
    codes = torch.searchsorted(_borders(table), values.contiguous()).to(torch.uint8)
    return Lookup(codes.view(rows, columns), table, scales, bits, group)


def rows_per_palette(rows: int, group: int) -> int:
    """The largest divisor of `rows` that is at most `group`: Core ML's palettes divide a matrix evenly.

    0, one palette for all, where that would be less than a quarter of `group`: so many palettes outweigh the indices.
    """
    if not 0 < group < rows:
        return 0
    largest = max(n for n in range(1, group + 1) if rows % n == 0)
    return largest if 4 * largest >= group else 0


def _cluster(values: Tensor, weights: Tensor, count: int) -> Tensor:
    """Centres [palettes, count], rising, float16 values: the better of two starts for each palette."""
    order = values.argsort(1)
    values, weights = values.gather(1, order), weights.gather(1, order).double()
    mass = torch.nn.functional.pad(weights.cumsum(1), (1, 0))
    moment = torch.nn.functional.pad((weights * values).cumsum(1), (1, 0))
    best: Tensor | None = None
    best_error = torch.full((len(values), 1), torch.inf, dtype=torch.float64)
    for start in (_quantiles(values, count), _even(values, count)):
        centres, error = _lloyd(values, weights, mass, moment, start)
        best = centres if best is None else torch.where(error < best_error, centres, best)
        best_error = torch.minimum(error, best_error)
    assert best is not None
    return best


def _lloyd(values: Tensor, weights: Tensor, mass: Tensor, moment: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    for _ in range(ROUNDS):
        edges = torch.searchsorted(values, _borders(centres))
        ends = torch.nn.functional.pad(edges, (1, 0)), torch.nn.functional.pad(edges, (0, 1), value=values.shape[1])
        held = mass.gather(1, ends[1]) - mass.gather(1, ends[0])
        mean = (moment.gather(1, ends[1]) - moment.gather(1, ends[0])) / held.clamp_min(1e-30)
        moved = torch.where(held > 0, mean.float(), centres)  # an empty cluster stays where it is
        if torch.equal(moved, centres):
            break
        centres = moved
    centres = centres.half().float().sort(1).values
    codes = torch.searchsorted(_borders(centres), values)
    error = (weights * (values - centres.gather(1, codes)).double().square()).sum(1, keepdim=True)
    return centres, error


def _borders(centres: Tensor) -> Tensor:
    return ((centres[:, 1:] + centres[:, :-1]) / 2).contiguous()


def _quantiles(values: Tensor, count: int) -> Tensor:
    """Centres spread by the cube root of the density, the least squares spread for many of them (Panter, Dite 1951)."""
    steps = torch.linspace(0, values.shape[1] - 1, min(values.shape[1], 513)).long()
    knots = values[:, steps]
    gaps = (knots[:, 1:] - knots[:, :-1]).clamp_min(1e-12)
    density = 1.0 / gaps
    length = torch.nn.functional.pad((gaps * density.pow(1 / 3)).cumsum(1), (1, 0))
    wanted = (torch.arange(count) + 0.5) / count * length[:, -1:]
    index = torch.searchsorted(length, wanted.contiguous()).clamp(1, length.shape[1] - 1)
    left, right = length.gather(1, index - 1), length.gather(1, index)
    share = (wanted - left) / (right - left).clamp_min(1e-12)
    return knots.gather(1, index - 1).lerp(knots.gather(1, index), share)


def _even(values: Tensor, count: int) -> Tensor:
    low, high = values[:, :1], values[:, -1:]
    return low + (high - low) * (torch.arange(count) + 0.5) / count
