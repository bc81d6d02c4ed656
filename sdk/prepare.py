"""Prepare: compress a model under each recipe, capture it, and write what the lowering workers read.

A model given by its spec is prepared in a process of its own, which gives its memory back before lowering begins; the
process that builds then never loads torch. A module that is in memory already is prepared where it is.

    <folder>/graphs/          captured entry points, for the workers
             proof.safetensors, bundled.safetensors    the proof, and the part of it that travels in bundles
             assets/          files that travel as they are
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.atomic import write_json
from ferrule.cache import Entry, Store, find, keep, open_store
from ferrule.cache_keys import prepared_key
from ferrule.catalog import TECHNIQUES
from ferrule.disk import copy_file, file_facts, full_disk, is_full, remove_tree
from ferrule.errors import FerruleError, InputError, LoweringError, by_code
from ferrule.graph_writes import remembered_buffers
from ferrule.jobs import kill, last_words
from ferrule.logs import logger, repeat_words
from ferrule.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ferrule.model import Captured, Model
    from ferrule.proof import Proof

__all__ = ["Prepared", "compress", "main", "model_facts", "prepare", "prepare_recipes", "prepare_spec"]

_ADDRESS = re.compile(rb'\\"graph_id\\": \d+')


@dataclass(frozen=True)
class Prepared:
    """A compressed model in a folder. facts: the manifest's `model`; formats: weight formats in the terms of profiles.

    files: name -> `sha256` and `bytes`. content: sha256 of what graphs and proof say; two models with the same one are
    lowered to the same artefact. entry: that of the cache which holds the folder, if it came from there.
    """

    root: Path
    facts: Mapping[str, Any]
    formats: frozenset[str]
    files: Mapping[str, Mapping[str, Any]]
    content: str
    entry: Entry | None = field(default=None, compare=False)

    @property
    def graphs(self) -> Path:
        """What `write_graphs` wrote."""
        return self.root / "graphs"

    @property
    def proof(self) -> Path:
        """All inputs with their answers."""
        return self.root / "proof.safetensors"

    @property
    def bundled_proof(self) -> Path:
        """The part that travels in a bundle."""
        return self.root / "bundled.safetensors"

    @property
    def assets(self) -> dict[str, Path]:
        """Name in the bundle -> file."""
        return {name.partition("/")[2]: self.root / name for name in self.files if name.startswith("assets/")}

    def known(self) -> dict[Path, Mapping[str, Any]]:
        """`files` by path."""
        return {self.root / name: row for name, row in self.files.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain dict without the folder, read back by `from_json`."""
        return {
            "facts": dict(self.facts),
            "formats": sorted(self.formats),
            "files": {name: dict(row) for name, row in self.files.items()},
            "content": self.content,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], root: Path) -> Prepared:
        """Rebuild from `to_json`."""
        return Prepared(root, data["facts"], frozenset(data["formats"]), data["files"], data["content"])


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
        if not data:
            raise InputError("FER-INP-007", "The calibration data hold no sample.", "Give at least one input.")
    elif current.calibration:
        data = list(current.calibration)
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
    """Capture a (compressed) model and write graphs, proof and assets into the folder.

    Raises CaptureError, ModelError, SourceError FER-SRC-002 for an asset that is not there, OutputError FER-OUT-003
    when the disk is full.
    """
    from ferrule.bundle import check_assets
    from ferrule.model import capture, check_weights
    from ferrule.proof import make_proof, with_answers

    check_weights(model)
    check_assets(model.assets)
    answered = with_answers(model)
    graphs = capture(answered)
    names = [spec.name for spec in graphs[model.policy.entry_point].signature.outputs]
    # A model that writes to its inputs is captured one level deeper, on copies of them.
    state = remembered_buffers(graphs[model.policy.entry_point].program)
    held = dict(model.entry_points[model.policy.entry_point].module.named_buffers())
    proof = make_proof(answered, names, [n if n in held else n.removeprefix("module.") for n in state])
    try:
        _write(folder, graphs, proof, model.assets)
    except Exception as error:
        if not is_full(error, folder):
            raise
        remove_tree(folder)
        raise full_disk(folder.parent, _bytes(graphs)) from error
    files = {p.relative_to(folder).as_posix(): file_facts(p) for p in sorted(folder.rglob("*")) if p.is_file()}
    return Prepared(folder, model_facts(model), _formats(graphs), files, _content(folder))


def _write(folder: Path, graphs: Mapping[str, Captured], proof: Proof, assets: Mapping[str, Path]) -> None:
    from ferrule.proof import save_proof
    from ferrule.worker import write_graphs

    (folder / "assets").mkdir(parents=True)
    for name, source in assets.items():
        copy_file(Path(source), folder / "assets" / name)
    save_proof(proof, folder / "proof.safetensors")
    save_proof(proof.head(), folder / "bundled.safetensors")
    write_graphs(graphs, folder / "graphs")


def _content(folder: Path) -> str:
    """sha256 over graphs and proof, without what torch's archives hold of addresses in memory and random numbers."""
    digest = hashlib.sha256(json.dumps(file_facts(folder / "proof.safetensors")).encode())
    digest.update((folder / "graphs" / "signatures.json").read_bytes())
    for path in sorted((folder / "graphs").glob("*.pt2")):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if not name.endswith("/.data/serialization_id"):
                    body = archive.read(name)
                    body = _ADDRESS.sub(b"", body) if name.endswith(".json") else body
                    digest.update(f"{name} {len(body)}\n".encode())
                    digest.update(body)
    return digest.hexdigest()


def _bytes(graphs: Mapping[str, Captured]) -> int:
    tensors = [t for graph in graphs.values() for t in graph.program.state_dict.values()]
    return sum(t.numel() * t.element_size() for t in tensors)


def prepare_recipes(
    get: Callable[[], Model],
    recipes: Sequence[Recipe],
    calibration: str | Path | Sequence[Mapping[str, Tensor]] | None,
    folder: Path,
    done: Callable[[int, Prepared], None] | None = None,
) -> list[Prepared | FerruleError]:
    """Prepare one model under each recipe; an error stands in the place of a recipe that fails.

    done: called with the recipe's index after each that succeeds.
    """
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
            prepared = prepare(compress(base, recipe, calibration=calibration), folder / f"recipe-{index}")
        except FerruleError as error:
            outcomes.append(error)
            continue
        outcomes.append(prepared)
        if done is not None:
            done(index, prepared)
    return outcomes


def prepare_spec(
    spec: str,
    recipes: Sequence[Recipe],
    calibration: str | Path | None,
    folder: Path,
    store: Store | None = None,
) -> list[Prepared | FerruleError]:
    """`prepare_recipes` for a model spec, in a process of its own; what it prints goes to `folder/log.txt`.

    Recipes that the cache knows for this very model are taken from there; when it knows all, no process is started.
    Ctrl-C ends that process before it is raised again.
    """
    keys = [None if store is None else prepared_key(store, spec, recipe, calibration) for recipe in recipes]
    known = [_recall(store, key, f"{spec} {recipe.name}") for key, recipe in zip(keys, recipes, strict=True)]
    missing = [index for index, prepared in enumerate(known) if prepared is None]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        job = {
            "spec": spec,
            "recipes": [recipes[index].to_json() for index in missing],
            "calibration": None if calibration is None else str(calibration),
            "keys": [keys[index] for index in missing],
        }
        made = iter(_run(job, folder, store))
    return [prepared or next(made) for prepared in known]


def _recall(store: Store | None, key: Mapping[str, Any] | None, what: str) -> Prepared | None:
    entry = find(store, "prepared", key) if store is not None and key is not None else None
    if entry is None:
        return None
    logger.info("%s: the compressed model comes from the cache", what)
    return replace(Prepared.from_json({**entry.data, "files": entry.files}, entry.root), entry=entry)


def _run(job: Mapping[str, Any], folder: Path, store: Store | None) -> list[Prepared | FerruleError]:
    (folder / "job.json").write_text(json.dumps(job))
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ferrule.prepare", str(folder)],
            stdin=subprocess.PIPE,  # its end tells the process that this one is gone, see `end_with_parent`
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(os.environ) if store is not None else {**os.environ, "FERRULE_CACHE": "off"},
            start_new_session=True,
        )
        try:
            code = process.wait()
        except BaseException:
            kill(process)
            process.wait()
            raise
        finally:
            if process.stdin is not None:
                process.stdin.close()
    repeat_words(folder, str(job["spec"]))
    return _read_outcomes(folder, code, len(job["recipes"]))


def _read_outcomes(folder: Path, code: int, count: int) -> list[Prepared | FerruleError]:
    path = folder / "prepared.json"
    if not path.is_file():
        error: FerruleError = LoweringError(
            "FER-LOW-010",
            f"The process that loads and compresses the model ended with code {code}; its last words: "
            f"{last_words(folder)}",
            "Code -9 usually means that memory ran out.",
        )
        if is_full(None, folder):
            error = full_disk(folder.parent, 1 << 20)
        return [error] * count
    return [
        by_code(row["code"], row["reason"], row["hint"])
        if "code" in row
        else Prepared.from_json(row, folder / f"recipe-{index}")
        for index, row in enumerate(json.loads(path.read_text()))
    ]


def main(folder: Path) -> int:
    """The process behind `prepare_spec`."""
    from ferrule.sources import load_model

    job = json.loads((folder / "job.json").read_text())
    recipes = [Recipe.from_json(recipe) for recipe in job["recipes"]]
    store = open_store()

    def remember(index: int, prepared: Prepared) -> None:
        # Asked again: the model's files may have changed since the parent looked at them.
        key = job["keys"][index]
        if store is None or key is None or prepared_key(store, job["spec"], recipes[index], job["calibration"]) != key:
            return
        data = prepared.to_json()
        keep(store, "prepared", key, {name: prepared.root / name for name in data.pop("files")}, data)

    rows: list[dict[str, Any]] = []
    for outcome in prepare_recipes(lambda: load_model(job["spec"]), recipes, job["calibration"], folder, remember):
        if isinstance(outcome, Prepared):
            rows.append(outcome.to_json())
        else:
            rows.append({"code": outcome.code, "reason": outcome.message, "hint": outcome.hint})
    write_json(folder / "prepared.json", rows)
    return 0


def _formats(graphs: Mapping[str, Captured]) -> frozenset[str]:
    from ferrule.codec import Lookup
    from ferrule.coded import ACTIVATION_STATIC
    from ferrule.converters.coded_sites import coded_sites

    found: set[str] = set()
    for site in (site for graph in graphs.values() for site in coded_sites(graph.program)):
        kind = "palette" if isinstance(site.codec, Lookup) else f"int{site.codec.bits}"
        whole, parts = ("tensor", "group") if kind == "palette" else ("channel", "block")
        found.add(f"{kind}-{parts if site.codec.group else whole}")
        if site.activation == ACTIVATION_STATIC:
            found.add("activations-int8-static")
    return frozenset(found)


if __name__ == "__main__":
    from ferrule.worker import end_with_parent

    end_with_parent()
    sys.exit(main(Path(sys.argv[1])))
