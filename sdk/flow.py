"""The flow: compress, lower, pack; and `deploy`, which does all of it for many devices."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule import cache as cached_results
from ferrule.bundle import Bundle, write_bundle, zip_bundle
from ferrule.cache import Store, open_store, trim
from ferrule.cache_keys import lowered_key
from ferrule.converters import find_target, missing_packages
from ferrule.device_profiles import DeviceProfile, check_format, choose_target
from ferrule.device_profiles import load as load_device
from ferrule.disk import FULL, full_disk, output_errors, staging, sweep
from ferrule.errors import FerruleError, OutputError, TargetError, UsageError
from ferrule.jobs import Event, Job, Outcome, Progress, run_jobs
from ferrule.logs import with_steps
from ferrule.prepare import Prepared, compress, model_facts, prepare, prepare_recipes, prepare_spec
from ferrule.program import Program
from ferrule.recipe import Recipe, load_recipe
from ferrule.result import Result, write_results
from ferrule.sources import find_source, load_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ferrule.model import Dim, Model

__all__ = ["Destination", "bundle_name", "compress", "deploy", "lower", "pack", "parse_destination"]

Inputs = Mapping[str, "Tensor"] | Sequence["Tensor"]
SINGLE = (str, Path, Mapping, Recipe)  # the forms of one recipe; anything else is a list of them


@dataclass(frozen=True)
class Destination:
    """A device and the target built for it."""

    device: DeviceProfile
    target: str
    refusal: FerruleError | None = None


def parse_destination(text: str) -> Destination:
    """`DEVICE` or `DEVICE:TARGET`; raises DeviceError FER-DEV-001 / TargetError FER-TGT-001 for unknown names.

    A pair that is known but impossible carries its refusal instead of raising: other destinations go on.
    """
    name, _, target = text.partition(":")
    device = load_device(name)
    wanted = find_target(target).name if target else None
    try:
        chosen = choose_target(device, wanted)
    except FerruleError as error:
        return Destination(device, wanted or "none", error)
    missing = missing_packages(find_target(chosen))
    if missing:
        refusal = TargetError(
            "FER-TGT-002",
            f"Target {chosen!r} needs {', '.join(missing)}, not installed here.",
            find_target(chosen).remedy(missing),
        )
        return Destination(device, chosen, refusal)
    return Destination(device, chosen)


def lower(
    model: Model | nn.Module,
    destination: str,
    folder: str | Path,
    *,
    example_inputs: Inputs | None = None,
    expand: bool = False,
    kernels: bool = False,
    min_cosine: float = -1.0,
    progress: Progress | None = None,
    cache: bool = True,
) -> Program:
    """Lower a model to one `DEVICE:TARGET` in a worker process, run it and compare; files land in `folder`.

    cache: take the artefact of an earlier, identical lowering (see `ferrule.cache`).

    Raises DeviceError, CaptureError, LoweringError, ParityError below `min_cosine`, or OutputError FER-OUT-001 /
    FER-OUT-002 for a folder that cannot be written or is not empty.
    """
    from ferrule.model import as_model

    place = parse_destination(destination)
    if place.refusal is not None:
        raise place.refusal
    if any(_open_folder(Path(folder)).iterdir()):
        raise OutputError("FER-OUT-002", f"Folder {folder} is not empty.", "Give a new or empty folder to lower into.")
    store = open_store() if cache else None
    with tempfile.TemporaryDirectory(prefix="ferrule-") as scratch:
        prepared = prepare(as_model(model, example_inputs), Path(scratch) / "prepared")
        _check_formats(place, prepared.formats)
        job = _job(place, Recipe("", min_cosine=min_cosine), Path(folder), prepared, expand, kernels)
        outcome = next(iter(run_jobs([job], with_steps(progress), store)))
    if outcome.error is not None:
        raise outcome.error
    assert outcome.program is not None and outcome.program.root is not None
    root = Path(folder) / "program"
    if outcome.entry is not None:
        shutil.copytree(outcome.program.root, root)
    return replace(outcome.program, root=root)


def pack(program: Program, model: Model, out: str | Path, *, device: str, recipe: str | Recipe = "fp") -> Bundle:
    """Pack a lowered program with the model's tokenizer, processing and proof into a bundle at `out`."""
    from ferrule.proof import make_proof, with_answers

    answered = with_answers(model)
    names = [spec.name for spec in program.entry_points[model.policy.entry_point].outputs]
    facts = _facts(model_facts(model), load_recipe(recipe), load_device(device))
    return write_bundle(program, Path(out), facts, model.assets, make_proof(answered, names))


def deploy(
    model: Model | nn.Module | str,
    example_inputs: Inputs | None = None,
    *,
    devices: Sequence[str],
    recipe: str | Path | Mapping[str, Any] | Recipe | Sequence[Any] = "fp",
    calibration: str | Path | Sequence[Mapping[str, Tensor]] | None = None,
    out: str | Path,
    dynamic: Mapping[str, Mapping[int, Dim]] | None = None,
    expand: bool = False,
    kernels: bool = False,
    archive: bool = False,
    progress: Progress | None = None,
    cache: bool = True,
) -> list[Result]:
    """Build one bundle for each device and recipe; partial success is a result, not an exception.

    model: a Model, a module with example inputs, or a spec as the command line takes it (prepared in a process of its
    own). devices: `DEVICE` or `DEVICE:TARGET`. recipe: one or a list. dynamic: input -> axis -> Dim, for a bare module.
    expand: decode weights that a target cannot hold natively instead of refusing. kernels: have Ferrule's own kernels
    read them inside the target's runtime, where it can call them. archive: write a .zip as well. cache: take what an
    earlier build made of the same content (see `ferrule.cache`), and keep what this one makes.
    Raises DeviceError, TargetError, RecipeError for unknown names, UsageError for none, and OutputError for a folder
    that cannot be written, all before any work; whatever fails later is a Result with a coded reason.
    """
    recipes = [load_recipe(recipe)] if isinstance(recipe, SINGLE) else [load_recipe(r) for r in recipe]
    places = [parse_destination(text) for text in ([devices] if isinstance(devices, str) else devices)]
    if not recipes or not places:
        found = f"{len(places)} devices and {len(recipes)} recipes were given"
        raise UsageError("FER-USE-001", f"{found}; at least one of each is needed.", "See `ferrule devices`.")
    if isinstance(model, str):
        find_source(model)
    progress = with_steps(progress)
    folder = _open_folder(Path(out))
    sweep(folder)
    store = open_store() if cache else None
    for place, chosen in product(places, recipes):
        _tell(progress, place, chosen, "waiting")
    with _room(folder), staging(folder) as stage, contextlib.nullcontext() if cache else cached_results.off():
        ready = _prepare_all(model, example_inputs, dynamic, recipes, calibration, stage / "prepared", store)
        results = _lower_all(places, recipes, ready, (expand, kernels), archive, folder, stage, store, progress)
    name = _model_name(model)
    ordered = [replace(results[p, r], model=name) for r in range(len(recipes)) for p in range(len(places))]
    write_results(ordered, folder)
    if store is not None and not all(result.cached for result in ordered):
        trim(store)
    return ordered


def _model_name(model: Model | nn.Module | str) -> str:
    """The spec, the source of a Model, or the class of a module."""
    return model if isinstance(model, str) else str(getattr(model, "source", f"module:{type(model).__name__}"))


def _lower_all(
    places: Sequence[Destination],
    recipes: Sequence[Recipe],
    ready: Sequence[Prepared | FerruleError],
    lacking: tuple[bool, bool],
    archive: bool,
    folder: Path,
    stage: Path,
    store: Store | None,
    progress: Progress | None,
) -> dict[tuple[int, int], Result]:
    """Results by indices of place and recipe; each bundle is packed as soon as its artefact is there."""
    results: dict[tuple[int, int], Result] = {}
    jobs: dict[Path, tuple[int, int]] = {}
    todo: list[Job] = []
    for (r, chosen), (p, place) in product(enumerate(recipes), enumerate(places)):
        prepared = ready[r]
        try:
            if place.refusal is not None:
                raise place.refusal
            if isinstance(prepared, FerruleError):
                raise prepared
            _check_formats(place, prepared.formats)
        except FerruleError as error:
            refused = error is not prepared
            _tell(progress, place, chosen, "refused" if refused else "failed")
            results[p, r] = _not_built(place, chosen, error, refused)
            continue
        job = _job(place, chosen, stage / f"job-{r}-{p}", prepared, *lacking)
        jobs[job.folder] = (p, r)
        todo.append(job)
    with contextlib.closing(run_jobs(todo, progress, store)) as outcomes:
        for outcome in outcomes:
            p, r = jobs[outcome.job.folder]
            prepared = ready[r]
            assert isinstance(prepared, Prepared)
            results[p, r] = _finish(outcome, places[p], recipes[r], prepared, folder, archive, progress)
    return results


def _prepare_all(
    model: Model | nn.Module | str,
    example_inputs: Inputs | None,
    dynamic: Mapping[str, Mapping[int, Dim]] | None,
    recipes: Sequence[Recipe],
    calibration: str | Path | Sequence[Mapping[str, Tensor]] | None,
    folder: Path,
    store: Store | None,
) -> list[Prepared | FerruleError]:
    """In a process of its own for a spec, here for what is in memory: a module, or calibration inputs."""
    if isinstance(model, str) and (calibration is None or isinstance(calibration, str | Path)):
        return prepare_spec(model, recipes, calibration, folder, store)

    def given() -> Model:
        from ferrule.model import as_model

        return load_model(model) if isinstance(model, str) else as_model(model, example_inputs, dynamic)

    return prepare_recipes(given, recipes, calibration, folder)


def _check_formats(place: Destination, formats: frozenset[str]) -> None:
    for name in sorted(formats):
        check_format(place.device, place.target, name)


def _job(place: Destination, recipe: Recipe, folder: Path, prepared: Prepared, expand: bool, kernels: bool) -> Job:
    return Job(
        place.device.name,
        place.target,
        recipe.name,
        folder,
        prepared.graphs,
        prepared.proof,
        recipe.min_cosine,
        expand,
        kernels,
        lowered_key(prepared.content, place.device.name, place.target, expand, kernels),
    )


def _finish(
    outcome: Outcome,
    place: Destination,
    recipe: Recipe,
    prepared: Prepared,
    folder: Path,
    archive: bool,
    progress: Progress | None,
) -> Result:
    """Pack what a worker made, or report what it said; its log is kept beside the bundles after a failure."""
    name = bundle_name(prepared.facts["source"], recipe.name, place)
    try:
        if outcome.error is not None:
            raise outcome.error
        assert outcome.program is not None
        _tell(progress, place, recipe, "packing")
        facts = _facts(prepared.facts, recipe, place.device)
        known = {**prepared.known(), **outcome.facts}
        proof = prepared.bundled_proof
        bundle = write_bundle(outcome.program, folder / name, facts, prepared.assets, proof, known)
        if archive:
            zip_bundle(bundle, folder / f"{name}.zip")
    except FerruleError as error:
        _tell(progress, place, recipe, "failed")
        result = _not_built(place, recipe, error, refused=error.code == "FER-LOW-002")
        return replace(result, seconds=round(outcome.seconds, 2), log=_keep_log(outcome.job, folder / f"{name}.log"))
    _tell(progress, place, recipe, "done")
    return Result(
        device=place.device.name,
        target=place.target,
        recipe=recipe.name,
        status="ok",
        bundle=str(bundle.root),
        size_bytes=int(bundle.manifest["size_bytes"]),
        parity=outcome.program.parity,
        notes=(*prepared.facts["notes"], *outcome.program.notes),
        seconds=round(outcome.seconds, 2),
        cached=outcome.entry is not None,
    )


def _not_built(place: Destination, recipe: Recipe, error: FerruleError, refused: bool) -> Result:
    return Result(
        device=place.device.name,
        target=place.target,
        recipe=recipe.name,
        status="refused" if refused else "failed",
        code=error.code,
        reason=error.message,
        hint=error.hint or None,
    )


def _facts(model: Mapping[str, Any], recipe: Recipe, device: DeviceProfile) -> dict[str, Any]:
    """What the manifest tells beyond the program."""
    return {
        "model": dict(model),
        "recipe": recipe.to_json(),
        "device": {"name": device.name, "title": device.title},
    }


def bundle_name(source: str, recipe: str, place: Destination) -> str:
    """`minilm-w8a8-pixel-9-litert.ferrule`, safe in every file system."""
    stem = source.rpartition(":")[2] if source.startswith(("sample:", "hf:", "timm:", "module:")) else source
    text = f"{stem}-{recipe}-{place.device.name}-{place.target}"
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text) + ".ferrule"


def _open_folder(folder: Path) -> Path:
    """Make the output folder and try to write there, before an hour of work is spent."""
    with output_errors(folder, 1 << 20):
        folder.mkdir(parents=True, exist_ok=True)
        with staging(folder):
            pass
    return folder


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """A disk that fills up where no step foresaw it is still told as what it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise full_disk(folder, 1 << 20) from error


def _keep_log(job: Job, path: Path) -> str | None:
    log = job.folder / "log.txt"
    if not log.is_file() or not log.stat().st_size:
        return None
    with contextlib.suppress(OSError):
        path.write_bytes(log.read_bytes())
        return str(path)
    return None


def _tell(progress: Progress | None, place: Destination, recipe: Recipe, phase: str) -> None:
    if progress is not None:
        progress(Event(place.device.name, place.target, recipe.name, phase))
