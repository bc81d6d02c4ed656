"""Find the layers of a model and put coded ones in their place, without touching the model given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from ferrule.cache import remembered
from ferrule.codec import Affine, Codec, Lookup, Range, encode_affine
from ferrule.coded import CodedLinear
from ferrule.errors import RecipeError
from ferrule.model import Model, copy_module

__all__ = [
    "Choice",
    "code_linears",
    "input_importance",
    "linear_weight",
    "replace_layers",
    "search_affine",
    "search_lookup",
]


@dataclass(frozen=True)
class Choice:
    """Which layers a step acts on: those that a glob of `layers` names and none of `skip` does."""

    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        return any(fnmatch(name, p) for p in self.layers) and not any(fnmatch(name, p) for p in self.skip)

    def reaches(self, name: str, parts: tuple[str, ...]) -> bool:
        """Whether the layer, or one of the parts that it would fall into, is chosen; a skipped layer is left whole."""
        inside = any(fnmatch(n, p) for n in (name, *(f"{name}.{part}" for part in parts)) for p in self.layers)
        return inside and not any(fnmatch(name, p) for p in self.skip)

    def __str__(self) -> str:
        outside = f" outside skip={list(self.skip)}" if self.skip else ""
        return outside if self.layers == ("*",) else f" among layers={list(self.layers)}{outside}"


def replace_layers(
    model: Model,
    technique: str,
    matches: Callable[[nn.Module], bool],
    make: Callable[[str, nn.Module], nn.Module | None],
    choice: Choice = Choice(),  # noqa: B008  frozen
    coded: type[nn.Module] = CodedLinear,
) -> Model:
    """A copy of the model with `make(name, layer)` for each layer that `matches` and that is in `choice`.

    `make` returns None to leave a layer alone. A layer that several places share is coded once and stays shared.
    coded: what an earlier step would have left in their place.
    Raises RecipeError FER-REC-002 when nothing was replaced (a recipe never acts as a silent no-op), and FER-REC-004
    when an earlier step has coded the layers already.
    """
    made: dict[int, nn.Module | None] = {}
    modules: dict[str, nn.Module] = {}
    seen = 0
    for entry_name, entry in model.entry_points.items():
        found: dict[str, nn.Module] = {}
        for name, layer in entry.module.named_modules(remove_duplicate=False):
            if matches(layer) and name in choice:
                seen += 1
                if id(layer) not in made:
                    made[id(layer)] = make(name, layer)
                replacement = made[id(layer)]
                if replacement is not None:
                    found[name] = replacement
        modules[entry_name] = _copy_with(entry.module, found)
    if not any(made.values()):
        _refuse_conflict(model, technique, choice, coded)
        why = f"the {seen} of its kind{choice} are too small" if seen else f"the model has none of its kind{choice}"
        raise RecipeError(
            "FER-REC-002",
            f"Technique {technique!r} found no layer to act on: {why}.",
            "Drop the technique from the recipe, or check that the model has such layers.",
        )
    return model.with_modules(modules, technique)


def _refuse_conflict(model: Model, technique: str, choice: Choice, coded: type[nn.Module]) -> None:
    taken = [
        name
        for entry in model.entry_points.values()
        for name, layer in entry.module.named_modules()
        if isinstance(layer, coded) and name in choice
    ]
    if taken:
        raise RecipeError(
            "FER-REC-004",
            f"Technique {technique!r} conflicts with {', '.join(model.history)}: {len(taken)} layers{choice}, such as "
            f"{taken[0]!r}, are coded already, and none is left.",
            "Drop one of them, or give each its part of the layers by 'layers' or 'skip' in a recipe file.",
        )


def _copy_with(module: nn.Module, found: Mapping[str, nn.Module]) -> nn.Module:
    """Copy the tree of modules; weights that stay are shared with the original, not copied."""
    if "" in found:
        return found[""]
    return copy_module(module, {id(module.get_submodule(name)): new for name, new in found.items()})


def linear_weight(layer: nn.Module) -> Tensor | None:
    """The weight [out, in] of a linear layer in either of its forms, None for other modules."""
    if type(layer) is nn.Linear or _is_timms_linear(layer):
        return layer.weight
    # GPT-2's own linear layer keeps its weight the other way round.
    if type(layer).__name__ == "Conv1D" and type(layer).__module__ == "transformers.pytorch_utils":
        weight: Tensor = layer.weight.t()
        return weight
    return None


def _is_timms_linear(layer: nn.Module) -> bool:
    """A subclass that computes the same, and differs under TorchScript alone."""
    return type(layer).__name__ == "Linear" and type(layer).__module__ == "timm.layers.linear"


def code_linears(
    model: Model,
    technique: str,
    *,
    encode: Callable[[Tensor, Tensor | None], Codec],
    activation: int,
    choice: Choice,
    importance: Mapping[int, Tensor] | None = None,
    ranges: Mapping[int, tuple[Range, Range]] | None = None,
) -> Model:
    """Replace every linear layer of the choice by a CodedLinear; the model's attention is split already.

    encode: (weight [out, in], importance [in] or None) -> codec. importance and ranges: by id(layer). Notes tell of
    layers that calibration never reached and of weights that are no linear layer's, which all stay in float.
    """
    unreached: list[str] = []

    def make(name: str, layer: nn.Module) -> nn.Module | None:
        weight = linear_weight(layer)
        assert weight is not None
        if ranges is not None and id(layer) not in ranges:
            unreached.append(name)
            return None
        codec = encode(weight, (importance or {}).get(id(layer)))
        if ranges is None:
            return CodedLinear(codec, layer.bias, activation)
        found = ranges[id(layer)]
        bias = None if layer.bias is None else _round_bias(layer.bias, codec, found[0])
        return CodedLinear(codec, bias, activation, found)

    made = replace_layers(model, technique, lambda layer: linear_weight(layer) is not None, make, choice)
    notes = list(_left_in_float(made, technique, choice))
    if unreached:
        notes.append(
            f"{technique}: no calibration input reaches {len(unreached)} layers, such as {unreached[0]!r}: they stay "
            "in float."
        )
    return replace(made, notes=(*made.notes, *notes))


def _round_bias(bias: Tensor, codec: Codec, given: Range) -> Tensor:
    """The bias in whole units of input scale times weight scale: integer kernels hold it so, and all targets alike."""
    unit = codec.scales[:, 0].double() * given.scale
    top = 2**31 - 1
    return ((bias.double() / unit).round().clamp(-top, top) * unit).float()


def search_affine(weight: Tensor, bits: int, group: int, rounding: str, importance: Tensor | None) -> Affine:
    """`encode_affine`, whose search for scales is made once for a weight and then found in the cache."""

    def search() -> dict[str, Tensor]:
        made = encode_affine(weight, bits, group, rounding, importance)
        return {"codes": made.codes, "scales": made.scales, "group": torch.tensor(made.group)}

    found = remembered("affine", (weight, bits, group, rounding, importance), search)
    return Affine(found["codes"], found["scales"], bits, int(found["group"]))


def search_lookup(weight: Tensor, bits: int, group: int, scaled: bool, importance: Tensor | None) -> Lookup:
    """`encode_lookup`, whose clusters are found once for a weight and then in the cache."""
    from ferrule.palette import encode_lookup

    def search() -> dict[str, Tensor]:
        made = encode_lookup(weight, bits, group, scaled, importance)
        return {"codes": made.codes, "table": made.table, "scales": made.scales, "group": torch.tensor(made.group)}

    found = remembered("lookup", (weight, bits, group, int(scaled), importance), search)
    return Lookup(found["codes"], found["table"], found["scales"], bits, int(found["group"]))


def _left_in_float(model: Model, technique: str, choice: Choice) -> tuple[str, ...]:
    """A note when weights of other layers than linear and embedding ones are a tenth of all such weights or more."""
    coded: dict[int, int] = {}
    rest: dict[int, tuple[int, str]] = {}
    for entry in model.entry_points.values():
        for name, layer in entry.module.named_modules():
            if isinstance(layer, CodedLinear):
                coded[id(layer)] = layer.codes.numel()
            elif not isinstance(layer, nn.Embedding) and name in choice:
                for key, weight in layer.named_parameters(recurse=False):
                    if weight.dim() > 1:
                        rest[id(weight)] = weight.numel(), f"{name}.{key}".lstrip(".")
    kept = sum(size for size, _ in rest.values())
    share = kept / max(1, kept + sum(coded.values()))
    if share < 0.1:
        return ()
    return (
        f"{technique} codes linear layers: {share:.0%} of the weights are those of other layers and stay float, "
        f"the largest is {max(rest.values())[1]!r}.",
    )


def input_importance(model: Model, data: list[Mapping[str, Tensor]]) -> dict[int, Tensor]:
    """Mean square of each input feature of every linear layer over calibration inputs, by id(layer)."""
    sums: dict[int, Tensor] = {}
    rows: dict[int, int] = {}

    def watch(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach().float().reshape(-1, args[0].shape[-1])
        sums[id(layer)] = sums.get(id(layer), torch.zeros(x.shape[1])) + x.square().sum(0)
        rows[id(layer)] = rows.get(id(layer), 0) + x.shape[0]

    module = model.entry_points[model.policy.entry_point].module
    hooks = [m.register_forward_pre_hook(watch) for m in module.modules() if linear_weight(m) is not None]
    try:
        with torch.no_grad():
            for inputs in data:
                module(*(value.clone() for value in inputs.values()))
    finally:
        for hook in hooks:
            hook.remove()
    return {key: total / rows[key] for key, total in sums.items()}
