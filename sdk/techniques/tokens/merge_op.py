"""`ferrule::merge_tokens`: the merging of one layer as one op, which torch.export keeps whole.

The native runtime has kernels for it. The other targets get what `merge_by_plain_ops` does, in static shapes and of ops
that they all have (converters/merging_sites.py).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ferrule.techniques.tokens.merging import match_tokens, merge_all, merge_padded, normalise_keys

__all__ = ["merge_by_plain_ops", "merge_tokens"]


def merge_by_plain_ops(
    x: Tensor,
    keys: Tensor,
    sizes: Tensor | None,
    counts: Tensor | None,
    mean: Tensor,
    positions: Tensor,
    protected: int,
    left: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge tokens x [batch, tokens, width] whose keys [batch, heads, tokens, key width] are alike; `left` are left.

    sizes: how many tokens each stands for, [batch, tokens], 0 at padding; None: one each. counts: how many to merge in
    each row, [batch], where rows are padded; None: as many as it takes. mean, positions: constants, see
    `normalise_keys` and `merge_all`. Returns tokens [batch, left, width], their sizes [batch, left], and for each token
    before the position of the one it went into, [batch, tokens]; all float32.
    """
    matching = match_tokens(normalise_keys(keys, mean), None if counts is None else sizes, protected)
    if counts is None or sizes is None:
        return merge_all(x, sizes, matching, x.shape[1] - left, positions)
    return merge_padded(x, sizes, matching, counts, left)


merge_tokens = torch.library.custom_op("ferrule::merge_tokens", merge_by_plain_ops, mutates_args=())
"""`merge_by_plain_ops` as one op."""


@merge_tokens.register_fake
def _merge_tokens_fake(
    x: Tensor,
    keys: Tensor,
    sizes: Tensor | None,
    counts: Tensor | None,
    mean: Tensor,
    positions: Tensor,
    protected: int,
    left: int,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, tokens, width = x.shape
    return x.new_empty((batch, left, width)), x.new_empty((batch, left)), x.new_empty((batch, tokens))
