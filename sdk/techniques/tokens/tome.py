"""`tome`: merge similar tokens in every layer of a transformer encoder, so that later layers have less to do.

Token Merging (Bolya et al., 2022). Between attention and feed-forward half each layer compares the keys of its tokens,
averages the `r` most similar pairs, weighted by how many tokens each stands for, and adds the log of that number to the
attention scores. No training, no calibration. Rows of text lose in proportion to their own length: see `Plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferrule.errors import RecipeError
from ferrule.model import Dim, EntryPoint, Model, copy_module

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ferrule.techniques.tokens.families import Family
    from ferrule.techniques.tokens.merging import Plan

__all__ = ["Options", "merge_tokens"]


@dataclass(frozen=True)
class Options:
    """r: tokens merged away in each layer, in the longest row. ratio: instead of r, the share of those left, below 0.5.

    schedule: `constant`, or `decreasing` from twice that to none. prop_attn: attend in proportion to sizes.
    """

    r: int = 8
    ratio: float = 0.0
    schedule: str = "constant"
    prop_attn: bool = True

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError(f"r is {self.r}; a number of tokens, 1 or more, is needed")
        if not 0 <= self.ratio <= 0.5:
            raise ValueError(f"ratio is {self.ratio}; a share from 0 to 0.5 is needed")
        if self.schedule not in ("constant", "decreasing"):
            raise ValueError(f"schedule is {self.schedule!r}; allowed: constant, decreasing")


def merge_tokens(model: Model, options: Options, data: list[Mapping[str, Tensor]] | None = None) -> Model:
    """The model with merging stacks in the place of its runs of blocks; `data` is not used.

    Raises RecipeError FER-REC-002 where no family is known or nothing can be merged, FER-REC-004 if it was done before.
    """
    from ferrule.techniques.quant.attention import split_attention

    if "tome" in model.history:
        raise RecipeError(
            "FER-REC-004", "Technique 'tome' stands twice in the recipe.", "Give it once, with a larger r."
        )
    split = split_attention(model)
    modules = {name: _merge_entry(name, entry, options) for name, entry in split.entry_points.items()}
    if not any(modules.values()):
        raise _refusal("no run of transformer blocks of a family that it knows")
    return split.with_modules({name: m for name, m in modules.items() if m is not None}, "tome")


def _merge_entry(name: str, entry: EntryPoint, options: Options) -> nn.Module | None:
    """A copy of the entry point's module with its stacks replaced; None where there are none."""
    from ferrule.techniques.tokens.families import blocks_of, find_stacks
    from ferrule.techniques.tokens.stack import MergingStack

    stacks: dict[int, nn.Module] = {}
    for _, container, family, protected in find_stacks(entry.module):
        seen = _observe(entry, blocks_of(container)[0], family)
        if seen is None:
            continue
        tokens, masked, key_width = seen
        plan = _plan(entry, options, len(blocks_of(container)), protected, tokens, masked)
        copied = blocks_of(copy_module(container, {}))
        stacks[id(container)] = MergingStack(copied, family, plan, options.prop_attn, key_width)
    if not stacks:
        return None
    merged = copy_module(entry.module, stacks).eval()
    _check_answer(name, entry, merged)
    return merged


def _observe(entry: EntryPoint, block: nn.Module, family: Family) -> tuple[int, bool, int] | None:
    """Tokens that a block sees in the example, whether with a mask, and how wide a key is; None if it is not run."""
    import torch

    from ferrule.proof import answer

    seen: list[tuple[int, bool, int]] = []

    def watch(module: nn.Module, args: tuple[object, ...], named: dict[str, object]) -> None:
        x = args[0] if args else next(iter(named.values()))
        assert isinstance(x, torch.Tensor)
        axis = 0 if getattr(getattr(module, "self_attn", None), "batch_first", True) is False else 1
        others = [value for value in (*args, *named.values()) if isinstance(value, torch.Tensor)]
        _, keys = family.attend(module, x if axis else x.transpose(0, 1), None)
        seen.append((x.shape[axis], len(others) > 1, keys.shape[-1]))

    hook = block.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        answer(entry.module, [entry.inputs])
    finally:
        hook.remove()
    return seen[0] if seen else None


def _plan(entry: EntryPoint, options: Options, layers: int, protected: int, tokens: int, masked: bool) -> Plan:
    from ferrule.techniques.tokens.merging import plan_merging

    dims = _dims_of_tokens(entry, tokens)
    text = any(not value.is_floating_point() for value in entry.inputs.values())
    longest = max((dim.max for dim in dims), default=tokens)
    plan = plan_merging(
        layers,
        longest,
        protected,
        r=options.r,
        ratio=options.ratio,
        schedule=options.schedule,
        padded=masked or text or bool(dims),
    )
    if not plan.totals[-1]:
        raise _refusal(f"nothing to merge among the {longest} tokens of the model with these options")
    return plan


def _dims_of_tokens(entry: EntryPoint, tokens: int) -> list[Dim]:
    """The dynamic axes that set the number of tokens; a dynamic batch sets none."""
    found = []
    for name, axes in entry.dynamic.items():
        for axis, dim in axes.items():
            length = entry.inputs[name].shape[axis]
            if length == tokens and (axis > 0 or entry.inputs[name].shape[0] != 1):
                found.append(dim)
            elif axis > 0:
                raise _refusal(
                    f"a dynamic axis, {dim.name!r}, {length} long in the example, where blocks see {tokens} tokens"
                )
    return found


def _check_answer(name: str, entry: EntryPoint, merged: nn.Module) -> None:
    """Models that look at single blocks (hidden states, attention maps) would answer something else."""
    from ferrule.errors import FerruleError
    from ferrule.proof import answer

    before = [tuple(t.shape) for t in answer(entry.module, [entry.inputs])[0]]
    try:
        after = [tuple(t.shape) for t in answer(merged, [entry.inputs])[0]]
    except FerruleError as error:
        raise _refusal(f"that entry point {name!r} fails without its single blocks: {error.message}") from error
    if before != after:
        raise _refusal(f"that entry point {name!r} answers {after} in the place of {before}: it reads single blocks")


def _refusal(what: str) -> RecipeError:
    from ferrule.techniques.tokens.families import FAMILIES

    known = "; ".join(family.name for family in FAMILIES)
    return RecipeError(
        "FER-REC-002", f"Technique 'tome' found {what}.", f"Drop it from the recipe. It takes blocks of: {known}."
    )
