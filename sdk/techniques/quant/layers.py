"""Find the layers of a model and put coded ones in their place, without touching the model given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatch

import torch
from torch import Tensor, nn

from ferrule.codec import encode_affine
from ferrule.coded import CodedLinear
from ferrule.errors import RecipeError
from ferrule.model import Model, copy_module

__all__ = ["code_linears", "input_importance", "replace_layers"]


def replace_layers(
    model: Model,
    technique: str,
    kind: type[nn.Module],
    make: Callable[[str, nn.Module], nn.Module | None],
    skip: tuple[str, ...] = (),
) -> Model:
    """A copy of the model in which `make(name, layer)` stands for every `kind` whose name no glob in `skip` matches.

    `make` returns None to leave a layer alone. A layer that several places share is coded once and stays shared.
    Raises RecipeError FER-REC-002 when nothing was replaced: a recipe never acts as a silent no-op.
    """
    made: dict[int, nn.Module | None] = {}
    modules: dict[str, nn.Module] = {}
    seen = 0
    for entry_name, entry in model.entry_points.items():
        found: dict[str, nn.Module] = {}
        for name, layer in entry.module.named_modules(remove_duplicate=False):
            if type(layer) is kind and not any(fnmatch(name, pattern) for pattern in skip):
                seen += 1
                if id(layer) not in made:
                    made[id(layer)] = make(name, layer)
                replacement = made[id(layer)]
                if replacement is not None:
                    found[name] = replacement
        modules[entry_name] = _copy_with(entry.module, found)
    if not any(made.values()):
        raise RecipeError(
            "FER-REC-002",
            f"Technique {technique!r} found no layer to act on: {seen} of kind {kind.__name__} matched"
            f"{f' outside skip={list(skip)}' if skip else ''}.",
            "Drop the technique from the recipe, or check that the model has such layers.",
        )
    return model.with_modules(modules, technique)


def _copy_with(module: nn.Module, found: Mapping[str, nn.Module]) -> nn.Module:
    """Copy the tree of modules; weights that stay are shared with the original, not copied."""
    if "" in found:
        return found[""]
    return copy_module(module, {id(module.get_submodule(name)): new for name, new in found.items()})


def code_linears(
    model: Model,
    technique: str,
    *,
    bits: int,
    group: int,
    activation: int,
    skip: tuple[str, ...] = (),
    rounding: str = "rtn",
    importance: Mapping[int, Tensor] | None = None,
) -> Model:
    """Replace every linear layer by a CodedLinear; `importance` maps id(layer) to E[x²] of its inputs."""

    def make(name: str, layer: nn.Module) -> nn.Module:
        assert isinstance(layer, nn.Linear)
        weigh = (importance or {}).get(id(layer))
        codec = encode_affine(layer.weight, bits, group, rounding, weigh)
        return CodedLinear(codec, layer.bias, activation)

    return replace_layers(model, technique, nn.Linear, make, skip)


def input_importance(model: Model, data: list[Mapping[str, Tensor]]) -> dict[int, Tensor]:
    """Mean square of each input feature of every linear layer over calibration inputs, by id(layer)."""
    sums: dict[int, Tensor] = {}
    rows: dict[int, int] = {}

    def watch(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].detach().float().reshape(-1, args[0].shape[-1])
        sums[id(layer)] = sums.get(id(layer), torch.zeros(x.shape[1])) + x.square().sum(0)
        rows[id(layer)] = rows.get(id(layer), 0) + x.shape[0]

    module = model.entry_points[model.policy.entry_point].module
    hooks = [m.register_forward_pre_hook(watch) for m in module.modules() if type(m) is nn.Linear]
    try:
        with torch.no_grad():
            for inputs in data:
                module(*inputs.values())
    finally:
        for hook in hooks:
            hook.remove()
    return {key: total / rows[key] for key, total in sums.items()}
