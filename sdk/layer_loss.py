"""Sensitivity: what each layer costs when it alone is compressed, so that a recipe can leave the worst in peace.

    float model ── one layer exchanged for its coded form ── outputs ── compared with the float model's

The recipe is applied once; then its coded layers are put into the float model one at a time. Techniques that change the
structure (token merging) belong to both sides of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.atomic import write_json
from ferrule.catalog import TECHNIQUES
from ferrule.errors import RecipeError
from ferrule.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ferrule.model import Model

__all__ = ["LayerLoss", "Sensitivity", "sensitivity"]

METRIC = "loss = 1 - mean cosine of the outputs to those of the float model, only this layer compressed"


@dataclass(frozen=True)
class LayerLoss:
    """One layer compressed alone. elements: of its weight; loss: 1 - mean cosine; cosine: the lowest of all inputs."""

    name: str
    kind: str
    elements: int
    loss: float
    cosine: float


@dataclass(frozen=True)
class Sensitivity:
    """The layers, worst first, beside the loss of all of them together. inputs: how many, and what they are."""

    model: str
    recipe: str
    inputs: str
    all_layers: float
    layers: tuple[LayerLoss, ...]

    def to_json(self, command: str = "") -> dict[str, Any]:
        """The content of `sensitivity.json`, which `ferrule report` reads."""
        return {
            "schema": 1,
            "model": self.model,
            "recipe": self.recipe,
            "metric": f"{METRIC}; {self.inputs}",
            "command": command,
            "baseline": {"loss": self.all_layers},
            "layers": [asdict(layer) for layer in self.layers],
        }

    def write(self, folder: Path, command: str = "") -> Path:
        """Write `sensitivity.json` into a build folder; raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "sensitivity.json", self.to_json(command))
        return folder / "sensitivity.json"


def sensitivity(
    model: Model | nn.Module | str,
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    example_inputs: Mapping[str, Tensor] | Sequence[Tensor] | None = None,
    calibration: str | Path | Sequence[Mapping[str, Tensor]] | None = None,
    samples: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivity:
    """Compress each layer alone, as the recipe does, and compare the outputs over `samples` proof inputs.

    Raises RecipeError FER-REC-002 for a recipe without a quantizer, and whatever `compress` raises.
    """
    from dataclasses import replace

    from ferrule.model import as_model, copy_module
    from ferrule.prepare import compress
    from ferrule.proof import answer, with_answers
    from ferrule.sources import load_model
    from ferrule.techniques.quant.attention import split_attention

    chosen = load_recipe(recipe)
    shape = Recipe(chosen.name, tuple(s for s in chosen.steps if TECHNIQUES[s.technique].kind != "quant"))
    if len(shape.steps) == len(chosen.steps):
        raise RecipeError(
            "FER-REC-002",
            f"Recipe {chosen.name!r} compresses no layer's weights: there is nothing to compare.",
            "Give a recipe with a quantizer, such as w8a8.",
        )
    loaded = with_answers(load_model(model) if isinstance(model, str) else as_model(model, example_inputs))
    plain = split_attention(compress(loaded, shape))
    coded = compress(loaded, chosen, calibration=calibration)
    point = loaded.policy.entry_point
    module, whole = plain.entry_points[point].module, coded.entry_points[point].module
    inputs = loaded.proof_inputs[:samples]
    reference = answer(module, inputs)
    layers = _coded_layers(whole)
    losses = []
    for index, (name, layer) in enumerate(layers.items()):
        if progress is not None:
            progress(index, len(layers))
        alone = layer if name == "" else copy_module(module, {id(module.get_submodule(name)): layer})
        losses.append(_compare(name, layer, reference, answer(alone, inputs[: len(reference)])))
    if progress is not None:
        progress(len(layers), len(layers))
    together = _compare("", whole, reference, answer(whole, inputs[: len(reference)]))
    shown = f"{len(reference)} of {loaded.proof_source}" if loaded.proof_source else f"{len(reference)} inputs"
    result = Sensitivity(loaded.source, chosen.name, shown, together.loss, ())
    return replace(result, layers=tuple(sorted(losses, key=lambda layer: -layer.loss)))


def _coded_layers(module: nn.Module) -> dict[str, nn.Module]:
    from ferrule.coded import CodedEmbedding, CodedLinear

    return {name: m for name, m in module.named_modules() if isinstance(m, CodedLinear | CodedEmbedding)}


def _compare(
    name: str, layer: nn.Module, reference: Sequence[Sequence[Tensor]], found: Sequence[Sequence[Tensor]]
) -> LayerLoss:
    import torch

    from ferrule.coded import CodedEmbedding

    cosines = [
        float(torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0, eps=1e-12))
        for row, other in zip(reference, found, strict=True)
        for a, b in zip(row, other, strict=True)
        if a.is_floating_point()
    ]
    mean = sum(cosines) / max(1, len(cosines))
    elements = sum(value.numel() for key, value in layer.named_buffers() if key.rpartition(".")[2] == "codes")
    kind = "embedding" if isinstance(layer, CodedEmbedding) else "linear"
    return LayerLoss(name, kind, elements, round(1 - mean, 9), round(min(cosines, default=1.0), 9))
