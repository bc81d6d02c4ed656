"""A run of transformer blocks between whose halves tokens are merged, and given back at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ferrule.errors import RecipeError
from ferrule.techniques.tokens.families import Family
from ferrule.techniques.tokens.merge_op import merge_tokens
from ferrule.techniques.tokens.merging import Plan, attention_bias, unmerge

__all__ = ["MergingStack"]


class MergingStack(nn.Module):
    """Stands in the place of a container of blocks, under the same names, and computes what its run of blocks does.

    Whether the model calls its container or loops over it, it finds this module, once, with a block's arguments: x
    [batch, tokens, width] and perhaps a mask over the keys. The answer has all tokens again, those merged being equal,
    so that heads that pool and heads that look at each token keep their meaning.
    """

    table: Tensor
    mean: Tensor
    positions: Tensor

    def __init__(self, blocks: list[nn.Module], family: Family, plan: Plan, prop_attn: bool, key_width: int) -> None:
        super().__init__()
        for index, block in enumerate(blocks):
            self.add_module(str(index), block)
        self.family, self.plan, self.prop_attn = family, plan, prop_attn
        # Constants of the graph, which no target has to fill in at every call.
        self.register_buffer("table", plan.table(), persistent=False)
        self.register_buffer("mean", torch.full((key_width, 1), 1 / key_width), persistent=False)
        self.register_buffer("positions", torch.arange(plan.longest, dtype=torch.float32), persistent=False)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter((self,))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> Any:
        return (self,)[index]

    @property
    def self_attn(self) -> nn.Module:
        """nn.TransformerEncoder asks its first layer which axis is the batch."""
        layer: nn.Module = next(self.children()).self_attn
        return layer

    def forward(self, x: Tensor, mask: Tensor | None = None, *rest: Any, **named: Any) -> Tensor:
        """x [batch, tokens, width] -> the same shape; mask [batch, 1, 1 or tokens, tokens], additive or boolean."""
        turned = getattr(getattr(next(self.children()), "self_attn", None), "batch_first", True) is False
        x = x.transpose(0, 1) if turned else x
        real = _real(x, mask, rest, named)
        assert real is None or self.plan.padded
        if real is None and self.plan.padded:
            real = torch.ones_like(x[:, :, 0])
        y = self._run(x, real)
        return y.transpose(0, 1) if turned else y

    def _run(self, x: Tensor, real: Tensor | None) -> Tensor:
        sizes, where, tokens = real, None, x.shape[1]
        # A look-up rather than arithmetic: the same whole numbers on every target.
        counts = None if real is None else self.table.index_select(0, real.sum(1).long())
        for index, block in enumerate(self.children()):
            x, keys = self.family.attend(block, x, attention_bias(sizes, self.prop_attn, real is not None))
            if self.plan.merges(index):
                left = self.plan.length(tokens, index + 1)
                of_row = None if counts is None else counts[:, index]
                x, sizes, went = merge_tokens(
                    x, keys, sizes, of_row, self.mean, self.positions, self.plan.protected, left
                )
                where = went if where is None else went.gather(1, where.long())
            x = self.family.feed(block, x)
        return x if where is None else unmerge(x, where)


def _real(x: Tensor, mask: Tensor | None, rest: tuple[Any, ...], named: dict[str, Any]) -> Tensor | None:
    """1 for tokens and 0 for padding, float [batch, tokens]; None where the model has no mask.

    Raises RecipeError FER-REC-002 for a mask that differs between queries or heads: merged tokens have none.
    """
    extra = dict(named)
    padding = extra.pop("src_key_padding_mask", None)
    names = ("attention_mask", "attn_mask", "src_mask")
    found = [m for m in (mask, padding, *(extra.pop(name, None) for name in names)) if m is not None]
    found += [value for value in (*rest, *extra.values()) if isinstance(value, Tensor)]
    if not found:
        return None
    given = found[0]
    over_keys = given is padding or (given.dim() == 4 and given.shape[1] == 1)
    if len(found) > 1 or not over_keys or any(value is True for value in extra.values()):
        shapes = ", ".join(str(list(value.shape)) for value in found)
        raise RecipeError(
            "FER-REC-002",
            f"Technique 'tome' found blocks that are called with masks or states of shapes {shapes}; one mask over the "
            "keys, the same for all queries and heads, is what merged tokens can keep.",
            "Drop the technique from the recipe for this model.",
        )
    row = given if given is padding else given[:, 0, 0]
    real = row.to(x.dtype) if row.dtype == torch.bool else (row + 1).clamp(0.0, 1.0)
    return real.expand(x.shape[0], -1)
