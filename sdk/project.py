"""The project file: models × devices × recipes in one `ferrule.yaml`, built by `ferrule build` without arguments.

Everything in the file is checked before any work is done, and each error names file, line and key. Paths in it are
relative to the file itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ferrule.errors import FerruleError, LoweringError, ProjectError
from ferrule.jobs import Event
from ferrule.logs import logger
from ferrule.project_file import Document, Where, read_document
from ferrule.recipe import Recipe, load_recipe
from ferrule.result import Result

__all__ = ["NAMES", "Plan", "Project", "build_project", "find_project", "load_project"]

NAMES = ("ferrule.yaml", "ferrule.yml", "ferrule.json")
KEYS = ("models", "devices", "recipes", "out", "expand", "kernels", "zip")
MODEL_KEYS = ("source", "calibration", "devices", "recipes")
PREFIXES = ("sample:", "hf:", "timm:")


@dataclass(frozen=True)
class Plan:
    """One model of a project with all that it is built for; bundles land in the project's `out` under `name`."""

    name: str
    source: str
    devices: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    calibration: Path | None = None


@dataclass(frozen=True)
class Project:
    """A project file, read and checked."""

    path: Path
    plans: tuple[Plan, ...]
    out: Path
    expand: bool = False
    kernels: bool = False
    archive: bool = False


def find_project(folder: Path) -> Path:
    """The project file in a folder; raises ProjectError FER-PRJ-001 for none, or for more than one."""
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise ProjectError("FER-PRJ-001", f"There are {len(found)} project files here: {names}.", "Name one by -f.")
    raise ProjectError(
        "FER-PRJ-001",
        f"No MODEL was given, and there is no project file here ({', '.join(NAMES)}).",
        "Give a model (ferrule build --help), name a file by -f, or write one with `ferrule init`.",
    )


def load_project(path: str | Path) -> Project:
    """Read and check a project file.

    Raises ProjectError: FER-PRJ-001 (unreadable), -002 (syntax), -003 (keys), -004 (types, values), -005 (an unknown
    device, target, recipe, form of source, or a file that is not there), -006 (nothing to build).
    """
    path = Path(path)
    document = read_document(path)
    data = document.data
    if not isinstance(data, Mapping):
        found = "nothing" if data is None else f"a {_kind(data)}"
        raise ProjectError(
            "FER-PRJ-004", f"{path} holds {found}; keys are needed: {', '.join(KEYS)}.", "`ferrule init` shows one."
        )
    _check_keys(document, (), data, KEYS)
    models = _field(document, data, (), "models", Mapping, "names with their sources")
    if not models:
        raise ProjectError("FER-PRJ-006", f"{document.place(('models',))} names no model.", "minilm: sample:minilm")
    out = _field(document, data, (), "out", str, "text, a folder", "build")
    if not out.strip():
        raise ProjectError("FER-PRJ-004", f"{document.place(('out',))} is empty; the name of a folder is needed.")
    return Project(
        path,
        tuple(_plan(document, name, data, row) for name, row in _named(document, models).items()),
        path.parent / out,
        _field(document, data, (), "expand", bool, "true or false", False),
        _field(document, data, (), "kernels", bool, "true or false", False),
        _field(document, data, (), "zip", bool, "true or false", False),
    )


def build_project(
    project: Project, progress: Callable[[str, Event], None] | None = None
) -> list[tuple[str, list[Result]]]:
    """Build every model of a project, one after the other, each into a folder of its own; a model that fails is told
    in its results and leaves the others alone. `progress` is called with the model's name and the event.
    """
    built = []
    for plan in project.plans:
        start = time.perf_counter()
        logger.info("model %s (%s)", plan.name, plan.source)
        results = _build(project, plan, progress)
        ok = sum(result.status == "ok" for result in results)
        logger.info("model %s: %d of %d built, %.1f s", plan.name, ok, len(results), time.perf_counter() - start)
        built.append((plan.name, results))
    return built


def _build(project: Project, plan: Plan, progress: Callable[[str, Event], None] | None) -> list[Result]:
    from ferrule.flow import deploy

    try:
        return deploy(
            plan.source,
            devices=plan.devices,
            recipe=list(plan.recipes),
            calibration=plan.calibration,
            out=project.out / plan.name,
            expand=project.expand,
            kernels=project.kernels,
            archive=project.archive,
            progress=None if progress is None else lambda event: progress(plan.name, event),
        )
    except FerruleError as error:
        return _none_built(plan, error)
    except Exception as error:  # whatever one model meets, the next ones are built
        logger.debug("model %s", plan.name, exc_info=True)
        first = (str(error).strip().splitlines() or ["no message"])[0][:300]
        return _none_built(plan, LoweringError("FER-LOW-009", f"Building raised {type(error).__name__}: {first}"))


def _none_built(plan: Plan, error: FerruleError) -> list[Result]:
    rows = []
    for recipe in plan.recipes:
        for text in plan.devices:
            device, _, target = text.partition(":")
            row = Result(device, target, recipe.name, "failed", code=error.code, reason=error.message)
            rows.append(replace(row, hint=error.hint or None))
    return rows


def _named(document: Document, models: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The models as objects, their names fit for folders on every system."""
    rows: dict[str, Mapping[str, Any]] = {}
    for name, value in models.items():
        where: Where = ("models", name)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name.endswith("."):
            raise ProjectError(
                "FER-PRJ-004",
                f"{document.place(where)}: {name!r} cannot be the name of a folder; 'a-z0-9._-' can.",
            )
        if name.lower() in (known.lower() for known in rows):
            raise ProjectError(
                "FER-PRJ-004", f"{document.place(where)}: {name!r} differs from another model by case only."
            )
        if not isinstance(value, str | Mapping):
            raise ProjectError(
                "FER-PRJ-004",
                f"{document.place(where)} is a {_kind(value)}; a source is needed, or keys: {', '.join(MODEL_KEYS)}.",
            )
        rows[name] = {"source": value} if isinstance(value, str) else value
        _check_keys(document, where, rows[name], MODEL_KEYS)
    return rows


def _plan(document: Document, name: str, top: Mapping[str, Any], row: Mapping[str, Any]) -> Plan:
    where: Where = ("models", name)
    calibration = _field(document, row, where, "calibration", str, "text, a file", "")
    return Plan(
        name,
        _source(document, where, row),
        _devices(document, *_list(document, top, row, where, "devices")),
        _recipes(document, *_list(document, top, row, where, "recipes")),
        _file(document, (*where, "calibration"), calibration) if calibration else None,
    )


def _source(document: Document, where: Where, row: Mapping[str, Any]) -> str:
    """The spec with its path made relative to where the command runs."""
    from ferrule.sources import find_source

    spec: str = _field(document, row, where, "source", str, "text, a model spec")
    place = (*where, "source") if (*where, "source") in document.lines else where
    try:
        find_source(spec)
    except FerruleError as error:
        raise _unknown(document, place, error) from error
    if spec.startswith("sample:"):
        return spec
    prefix = next((p for p in PREFIXES if spec.startswith(p)), "")
    if prefix == "timm:":
        head, at, checkpoint = spec.partition("@")
        return f"{head}{at}{_beside(document, checkpoint)}" if at else spec
    return prefix + _beside(document, spec.removeprefix(prefix))


def _devices(document: Document, where: Where, rows: Sequence[Any]) -> tuple[str, ...]:
    from ferrule.flow import parse_destination

    seen: dict[tuple[str, str], Where] = {}
    for index, text in enumerate(rows):
        here = (*where, index)
        if not isinstance(text, str):
            raise ProjectError("FER-PRJ-004", f"{document.place(here)} is a {_kind(text)}; DEVICE or DEVICE:TARGET.")
        try:
            place = parse_destination(text)
        except FerruleError as error:
            raise _unknown(document, here, error) from error
        _once(document, seen, (place.device.name, place.target), here)
    return tuple(rows)


def _recipes(document: Document, where: Where, rows: Sequence[Any]) -> tuple[Recipe, ...]:
    seen: dict[tuple[str, str], Where] = {}
    recipes = []
    for index, row in enumerate(rows):
        here = (*where, index)
        if not isinstance(row, str | Mapping):
            raise ProjectError(
                "FER-PRJ-004", f"{document.place(here)} is a {_kind(row)}; a name, a .json file or a recipe is needed."
            )
        try:
            path = isinstance(row, str) and row.endswith(".json")
            recipe = load_recipe(_file(document, here, str(row)) if path else row)
        except ProjectError:
            raise
        except FerruleError as error:
            raise _unknown(document, here, error) from error
        _once(document, seen, (recipe.name, ""), here)
        recipes.append(recipe)
    return tuple(recipes)


def _once(document: Document, seen: dict[tuple[str, str], Where], key: tuple[str, str], here: Where) -> None:
    """Two of one name would write one bundle."""
    if key in seen:
        what = ":".join(part for part in key if part)
        raise ProjectError(
            "FER-PRJ-004", f"{document.place(here)}: {what!r} stands there a second time.", "Drop or rename one."
        )
    seen[key] = here


def _list(
    document: Document, top: Mapping[str, Any], row: Mapping[str, Any], where: Where, key: str
) -> tuple[Where, Sequence[Any]]:
    """A model's own list of devices or recipes, else the one for all; and where it stands."""
    holder, at = (row, where) if key in row else (top, ())
    if key not in holder:
        found = f"{document.place(where)} has no {key}, and there are none for all models"
        raise ProjectError("FER-PRJ-006", f"{found}.", f"Add `{key}:` with a list.")
    values = holder[key]
    if not isinstance(values, list):
        raise ProjectError("FER-PRJ-004", f"{document.place((*at, key))} is a {_kind(values)}; a list is needed.")
    if not values:
        raise ProjectError("FER-PRJ-006", f"{document.place((*at, key))} is an empty list, so nothing would be built.")
    return (*at, key), values


_NEEDED = object()


def _field(
    document: Document,
    holder: Mapping[str, Any],
    where: Where,
    key: str,
    kind: type[Any],
    needed: str,
    default: Any = _NEEDED,
) -> Any:
    if key not in holder:
        if default is _NEEDED:
            raise ProjectError("FER-PRJ-003", f"{document.place(where)}: key {key!r} is missing: {needed}.")
        return default
    value = holder[key]
    if not isinstance(value, kind):
        raise ProjectError("FER-PRJ-004", f"{document.place((*where, key))} is a {_kind(value)}; needed: {needed}.")
    return value


def _check_keys(document: Document, where: Where, holder: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key in holder:
        if key not in allowed:
            close = get_close_matches(key, allowed, n=1)
            raise ProjectError(
                "FER-PRJ-003",
                f"{document.place((*where, key))}: there is no such key; allowed: {', '.join(allowed)}.",
                f"Did you mean {close[0]!r}?" if close else "",
            )


def _beside(document: Document, text: str) -> str:
    return str(document.path.parent / Path(text).expanduser())


def _file(document: Document, where: Where, text: str) -> Path:
    path = Path(_beside(document, text))
    if not path.is_file():
        raise ProjectError(
            "FER-PRJ-005", f"{document.place(where)}: file {path} does not exist.", "Paths begin at the project file."
        )
    return path


def _unknown(document: Document, where: Where, error: FerruleError) -> ProjectError:
    return ProjectError("FER-PRJ-005", f"{document.place(where)}: {error.message}", error.hint)


def _kind(value: Any) -> str:
    names = {dict: "mapping", list: "list", str: "text", bool: "true or false", type(None): "blank"}
    return names.get(type(value), type(value).__name__)
