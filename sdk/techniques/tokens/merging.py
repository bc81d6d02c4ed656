"""The arithmetic of token merging: schedules, matching, merging, unmerging; tensors only, no model.

ToMe (Bolya et al., Token Merging: Your ViT But Faster) in static shapes and without scatter or a full sort, since few
targets run those: the tokens merged are chosen by `topk`, or by counting the better ones where rows are padded, and
sums into destinations are products with matrices of zeros and ones, written as max(0, 1 - |i - j|). Numbers stay exact
in float16 up to 2048 tokens and there is no infinity.

Tokens keep the order of their positions; the released code puts the even ones that are left before the odd ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Matching",
    "Plan",
    "attention_bias",
    "match_tokens",
    "merge_all",
    "merge_padded",
    "normalise_keys",
    "plan_merging",
    "unmerge",
]

MASKED = -1e4  # added to scores: exp(-1e4) is zero in every precision, and -1e4 is finite in float16


@dataclass(frozen=True)
class Plan:
    """How many tokens are left after each layer.

    protected: leading tokens that are never merged away. longest: tokens of the longest row, the protected among them.
    totals: how many of them are gone after each layer. padded: whether rows may be shorter than they look. A shorter
    row loses the same share of its own tokens, so that what becomes of it does not depend on how far it was padded.
    """

    protected: int
    longest: int
    totals: tuple[int, ...]
    padded: bool = False

    def length(self, tokens: int, layers: int) -> int:
        """Tokens left of `tokens` (an int, or a symbol of torch.export) after the first `layers` layers.

        The share of those unprotected, rounded up. `tokens` stands in it once and what is added to the quotient is 2 as
        a rule, so that torch sees by bounds alone that the length is neither 0 nor 1, which it would compile apart.
        """
        whole = max(1, self.longest - self.protected)
        left = whole - (self.totals[layers - 1] if layers else 0)
        return self.protected + 1 + ((tokens - self.protected) * left - 1) // whole

    def merges(self, layer: int) -> int:
        """Tokens that the longest row loses in a layer."""
        return self.totals[layer] - (self.totals[layer - 1] if layer else 0)

    def token_layers(self, tokens: int) -> tuple[list[int], list[int]]:
        """Tokens that each layer's attention and its feed-forward half see."""
        lengths = [self.length(tokens, n) for n in range(len(self.totals) + 1)]
        return lengths[:-1], lengths[1:]

    def table(self) -> Tensor:
        """float32 [longest + 1, layers]: what a row of so many tokens loses in each layer."""
        rows = []
        for tokens in range(self.longest + 1):
            lengths = [self.length(max(tokens, self.protected), n) for n in range(len(self.totals) + 1)]
            rows.append([a - b for a, b in zip(lengths, lengths[1:], strict=False)])
        return torch.tensor(rows, dtype=torch.float32)


def plan_merging(
    layers: int, tokens: int, protected: int, *, r: int, ratio: float, schedule: str, padded: bool
) -> Plan:
    """The plan for rows of up to `tokens` tokens: `r` a layer, or a `ratio` of those that are left.

    `decreasing` begins at twice that and ends at none, in even steps. No layer takes more than half of the unprotected
    tokens, or a third where rows are padded: with a third, a shorter row always has as many pairs as its share asks for
    (the share of v tokens, rounded up, is at most v // 2 then, and never the last of them).
    """
    left, gone, totals = tokens - protected, 0, []
    for layer in range(layers):
        weight = 1.0 if schedule == "constant" or layers == 1 else 2 * (1 - layer / (layers - 1))
        wish = int(ratio * weight * left + 1e-9) if ratio else int(r * weight + 1e-9)
        merged = max(0, min(wish, left // 3 if padded else left // 2))
        left, gone = left - merged, gone + merged
        totals.append(gone)
    return Plan(protected, tokens, tuple(totals), padded)


@dataclass(frozen=True)
class Matching:
    """The best partner of tokens at even positions, beginning at `start`, among those at odd ones.

    score: float, below -1 where the token may not be merged, [batch, evens], or [batch, tokens] where rows are padded.
    target: the partner's position, float, of the same shape.
    """

    start: int
    score: Tensor
    target: Tensor


def normalise_keys(keys: Tensor, mean: Tensor) -> Tensor:
    """Keys [batch, heads, tokens, width], averaged over the heads and of length one: [batch, tokens, width].

    mean: 1/width, [width, 1]. Squares are averaged, not summed, and so stay small in float16; sums over an axis are
    products and slices, which all accelerators have.
    """
    heads = keys.shape[1]
    total = sum((keys[:, h : h + 1] for h in range(1, heads)), keys[:, :1]).squeeze(1) * (1 / heads)
    return total * (torch.rsqrt((total * total + 1e-5) @ mean) * keys.shape[-1] ** -0.5)


def match_tokens(metric: Tensor, sizes: Tensor | None, protected: int) -> Matching:
    """Match tokens [batch, tokens, width] of length one by cosine; the protected ones and padding match nothing.

    sizes: 0 at padding, or None where there is none. As in the released code the even positions look for partners among
    the odd ones.
    """
    if sizes is None:
        start = protected + protected % 2
        scores = metric[:, start::2] @ metric[:, protected + 1 - protected % 2 :: 2].transpose(1, 2)
        score, index = scores.max(-1)
        return Matching(start, score, index.to(metric.dtype) * 2 + (protected + 1 - protected % 2))
    # Whole rows and columns, whatever their parity: their number is then never 0 or 1, at which torch.export balks.
    position = torch.arange(metric.shape[1])
    odd = (position % 2).to(metric.dtype)
    taking_part = sizes.clamp_max(1.0) * (position - (protected - 1)).to(metric.dtype).clamp(0.0, 1.0)
    scores = metric @ metric.transpose(1, 2) - 4 * (1 - taking_part * odd).unsqueeze(1)
    score, index = scores.max(-1)
    return Matching(0, score - 4 * (1 - taking_part * (1 - odd)), index.to(metric.dtype))


def attention_bias(sizes: Tensor | None, proportional: bool, padded: bool) -> Tensor | None:
    """What to add to attention scores [batch, keys]: log of the sizes, and -1e4 at padding."""
    if sizes is None:
        return None
    bias = sizes.clamp_min(1.0).log() if proportional else None
    if padded:
        mask = (sizes.clamp_max(1.0) - 1) * -MASKED
        bias = mask if bias is None else bias + mask
    return bias


def merge_all(
    x: Tensor, sizes: Tensor | None, matching: Matching, count: int, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the `count` best pairs of each row of x [batch, tokens, width], none of which is padded.

    positions: 0, 1, 2, …, float, as many as there are tokens or more. Returns the tokens [batch, tokens - count,
    width], means weighted by size; their sizes; and for each token before the position of the one it went into, float
    [batch, tokens].
    """
    tokens, left = x.shape[1], x.shape[1] - count
    at = positions[:tokens]
    chosen = matching.score.topk(count, dim=1)[1]
    source = (chosen.to(x.dtype) * 2 + matching.start).unsqueeze(2)
    target = matching.target.gather(1, chosen).unsqueeze(2)
    ones = x.new_full((1, count), 1.0)
    gone = _one_hot(source, at)  # [batch, count, tokens]
    kept = 1 - (ones @ gone).squeeze(1)
    # A token moves up by as many places as tokens before it have gone.
    order = at - (ones @ (at - source).clamp(0.0, 1.0)).squeeze(1)
    place = target - (target - source.transpose(1, 2)).clamp(0.0, 1.0) @ ones.transpose(0, 1)
    went = order * kept + (place.transpose(1, 2) @ gone).squeeze(1)
    # The kept ones in order of position: of numbers that fall with the position, the largest.
    staying = (kept * (tokens - at)).topk(left, dim=1)[1]
    into = _one_hot(place.transpose(1, 2), positions[:left].unsqueeze(1))  # [batch, left, count]
    moved = _rows(x, chosen * 2 + matching.start)
    if sizes is None:
        new = into.sum(2, keepdim=True) + 1
        return (_rows(x, staying) + into @ moved) / new, new.squeeze(2), went
    own, heavy = sizes.gather(1, staying).unsqueeze(2), gone @ sizes.unsqueeze(2)
    new = own + into @ heavy
    return _rows(x, staying) * (own / new) + (into / new) @ (moved * heavy), new.squeeze(2), went


def merge_padded(
    x: Tensor, sizes: Tensor, matching: Matching, counts: Tensor, left: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`merge_all` where each row has a count of its own, [batch], and padding is dropped instead.

    sizes are 0 at padding; what is left of it comes last. No op takes a number that depends on the length.
    """
    positions = torch.arange(x.shape[1], dtype=x.dtype)
    score, other = matching.score.unsqueeze(2), matching.score.unsqueeze(1)
    # Sums and products instead of `or` and `and`, which ExecuTorch's Core ML partitioner does not take.
    first = (positions.unsqueeze(0) < positions.unsqueeze(1)).to(x.dtype)
    ahead = (other > score).to(x.dtype) + (other == score).to(x.dtype) * first
    gone = (counts.unsqueeze(1) - ahead.sum(2)).clamp(0.0, 1.0)
    order = ((sizes.clamp_max(1.0) - gone).cumsum(1) - 1).clamp_min(0.0)
    went = order.gather(1, (positions + gone * (matching.target - positions)).long())
    into = _one_hot(went.unsqueeze(1), torch.arange(left, dtype=x.dtype).unsqueeze(1))  # [batch, left, tokens]
    new = into @ sizes.unsqueeze(2)
    share = sizes.unsqueeze(2) / (into.transpose(1, 2) @ new).clamp_min(1.0)
    return into @ (x * share), new.squeeze(2), went


def unmerge(x: Tensor, where: Tensor) -> Tensor:
    """Give each of the first tokens what it went into: x [batch, left, width], where [batch, tokens] -> all tokens."""
    return _rows(x, where.long())


def _one_hot(index: Tensor, positions: Tensor) -> Tensor:
    """1 where two whole numbers are equal, else 0."""
    return (1 - (index - positions).abs()).clamp_min(0.0)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """x [batch, tokens, width] at index [batch, n]: one gather of whole rows, which every runtime copies at once."""
    if x.shape[0] == 1:
        # Flattened, not squeezed: coremltools keeps an axis whose length it does not know to be one.
        return x.flatten(0, 1).index_select(0, index.flatten()).unsqueeze(0)
    offset = torch.arange(x.shape[0]).unsqueeze(1) * x.shape[1]
    rows = x.flatten(0, 1).index_select(0, (index + offset).flatten())
    return rows.unflatten(0, (x.shape[0], -1))
