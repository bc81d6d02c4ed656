"""Prepare: compress a model under each recipe, capture it, and write what the lowering workers read.

A model given by its spec is prepared in a process of its own, which gives its memory back before lowering begins; the
process that builds then never loads torch. A module that is in memory already is prepared where it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.atomic import write_json
from ferrule.catalog import TECHNIQUES
from ferrule.errors import FerruleError, LoweringError, by_code
from ferrule.jobs import kill, last_words
from ferrule.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ferrule.model import Captured, Model

__all__ = ["Prepared", "compress", "main", "model_facts", "prepare", "prepare_recipes", "prepare_spec"]


@dataclass(frozen=True)
class Prepared:
    """A compressed model on disk. facts: the manifest's `model`; formats: weight formats in the terms of profiles."""

    facts: Mapping[str, Any]
    assets: Mapping[str, Path]
    graphs: Path
    proof: Path
    formats: frozenset[str]

    def to_json(self) -> dict[str, Any]:
        """Plain dict, read back by `from_json`."""
        return {
            "facts": dict(self.facts),
            "assets": {name: str(path) for name, path in self.assets.items()},
            "graphs": str(self.graphs),
            "proof": str(self.proof),
            "formats": sorted(self.formats),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Prepared:
        """Rebuild from `to_json`."""
        return Prepared(
            data["facts"],
            {name: Path(path) for name, path in data["assets"].items()},
            Path(data["graphs"]),
            Path(data["proof"]),
            frozenset(data["formats"]),
        )


def compress(
    model: Model | nn.Module,
    recipe: str | Path | Mapping[str, Any] | Recipe = "fp",
    *,
    example_inputs: Mapping[str, Tensor] | Sequence[Tensor] | None = None,
    calibration: str | Path | Sequence[Mapping[str, Tensor]] | None = None,
) -> Model:
    """Apply a recipe's steps to a copy of the model; the model given is not changed.

    calibration: a file (see `load_calibration`) or inputs by name. Raises RecipeError, InputError, ModelError.
    """
    from ferrule.calibration import fit_inputs, load_calibration
    from ferrule.model import as_model, check_weights
    from ferrule.proof import with_answers

    current = as_model(model, example_inputs)
    check_weights(current)  # before the model is run: NaN weights explain NaN answers
    current = with_answers(current)
    data: list[Mapping[str, Tensor]] | None = None
    if isinstance(calibration, str | Path):
        data = load_calibration(calibration, current)
    elif calibration is not None:
        entry = current.entry_points[current.policy.entry_point]
        data = [fit_inputs(row, entry, f"calibration sample {index}") for index, row in enumerate(calibration)]
    for step in load_recipe(recipe).steps:
        technique = TECHNIQUES[step.technique]
        current = technique.function()(current, technique.read_options(step.options), data)
    return current


def model_facts(model: Model) -> dict[str, Any]:
    """What a manifest tells of the model."""
    return {
        "source": model.source,
        "history": list(model.history),
        "notes": list(model.notes),
        "policy": model.policy.to_json(),
        "processing": dict(model.processing),
    }


def prepare(model: Model, folder: Path) -> Prepared:
    """Capture a (compressed) model and write graphs and proof into the folder; raises CaptureError, ModelError."""
    from ferrule.model import capture, check_weights
    from ferrule.proof import make_proof, save_proof, with_answers
    from ferrule.worker import write_graphs

    check_weights(model)
    answered = with_answers(model)
    graphs = capture(answered)
    write_graphs(graphs, folder / "graphs")
    names = [spec.name for spec in graphs[model.policy.entry_point].signature.outputs]
    save_proof(make_proof(answered, names), folder / "proof.safetensors")
    return Prepared(
        model_facts(model), dict(model.assets), folder / "graphs", folder / "proof.safetensors", _formats(graphs)
    )


def prepare_recipes(
    get: Callable[[], Model],
    recipes: Sequence[Recipe],
    calibration: str | Path | Sequence[Mapping[str, Tensor]] | None,
    folder: Path,
) -> list[Prepared | FerruleError]:
    """Prepare one model under each recipe; an error stands in the place of a recipe that fails."""
    from ferrule.model import check_weights
    from ferrule.proof import with_answers

    try:
        model = get()
        check_weights(model)
        base = with_answers(model)
    except FerruleError as error:
        return [error] * len(recipes)
    outcomes: list[Prepared | FerruleError] = []
    for index, recipe in enumerate(recipes):
        try:
            outcomes.append(prepare(compress(base, recipe, calibration=calibration), folder / f"recipe-{index}"))
        except FerruleError as error:
            outcomes.append(error)
    return outcomes


def prepare_spec(
    spec: str, recipes: Sequence[Recipe], calibration: str | Path | None, folder: Path
) -> list[Prepared | FerruleError]:
    """`prepare_recipes` for a model spec, in a process of its own; what it prints goes to `folder/log.txt`.

    Ctrl-C ends that process before it is raised again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "spec": spec,
        "recipes": [recipe.to_json() for recipe in recipes],
        "calibration": None if calibration is None else str(calibration),
    }
    (folder / "job.json").write_text(json.dumps(job))
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ferrule.prepare", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:
            kill(process)
            process.wait()
            raise
    return _read_outcomes(folder, code, len(recipes))


def _read_outcomes(folder: Path, code: int, count: int) -> list[Prepared | FerruleError]:
    path = folder / "prepared.json"
    if not path.is_file():
        error = LoweringError(
            "FER-LOW-010",
            f"The process that loads and compresses the model ended with code {code}; its last words: "
            f"{last_words(folder)}",
            "Code -9 usually means that memory ran out.",
        )
        return [error] * count
    return [
        by_code(row["code"], row["reason"], row["hint"]) if "code" in row else Prepared.from_json(row)
        for row in json.loads(path.read_text())
    ]


def main(folder: Path) -> int:
    """The process behind `prepare_spec`."""
    from ferrule.sources import load_model

    job = json.loads((folder / "job.json").read_text())
    recipes = [Recipe.from_json(recipe) for recipe in job["recipes"]]
    rows: list[dict[str, Any]] = []
    for outcome in prepare_recipes(lambda: load_model(job["spec"]), recipes, job["calibration"], folder):
        if isinstance(outcome, Prepared):
            rows.append(outcome.to_json())
        else:
            rows.append({"code": outcome.code, "reason": outcome.message, "hint": outcome.hint})
    write_json(folder / "prepared.json", rows)
    return 0


def _formats(graphs: Mapping[str, Captured]) -> frozenset[str]:
    from ferrule.converters.coded_sites import coded_sites

    codecs = [site.codec for graph in graphs.values() for site in coded_sites(graph.program)]
    return frozenset(f"int{codec.bits}-{'block' if codec.group else 'channel'}" for codec in codecs)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
