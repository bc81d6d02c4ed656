"""Recipe: an ordered list of techniques with their options, as JSON, and presets named by a grammar.

A preset is `fp` (nothing), a file in `recipes/`, or techniques of the catalogue joined by `-` (`w8a8-emb8`), some of
them with a number (`lut4`, `tome8`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ferrule.catalog import TECHNIQUES, find_technique
from ferrule.errors import RecipeError

__all__ = ["Recipe", "Step", "load_recipe", "preset_names"]

PRESETS = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Step:
    """A technique's name in the catalogue, with the options that differ from its defaults."""

    technique: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """Steps in the order in which they are applied, and the parity that each target must then reach.

    min_cosine: the lowest cosine to the eager float32 model, over all proof inputs, that a target may have.
    """

    name: str
    steps: tuple[Step, ...] = ()
    min_cosine: float = 0.99

    def to_json(self) -> dict[str, Any]:
        """The form that a recipe file has."""
        steps = [{"technique": s.technique, "options": dict(s.options)} for s in self.steps]
        return {"name": self.name, "steps": steps, "min_cosine": self.min_cosine}

    @staticmethod
    def from_json(data: Mapping[str, Any], name: str = "") -> Recipe:
        """Read a recipe, strictly; raises RecipeError FER-REC-003 naming the field that is wrong."""
        _check_keys(data, {"name", "steps", "min_cosine"}, "a recipe")
        steps = data.get("steps", [])
        if not isinstance(steps, list):
            raise RecipeError("FER-REC-003", f"'steps' is a {type(steps).__name__}; a list is needed.")
        bound = data.get("min_cosine", 0.99)
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not -1 <= bound <= 1:
            raise RecipeError("FER-REC-003", f"'min_cosine' is {bound!r}; a number in [-1, 1] is needed.")
        return Recipe(str(data.get("name", name)), tuple(_read_step(s) for s in steps), float(bound))


def _read_step(data: Any) -> Step:
    if not isinstance(data, Mapping) or not isinstance(data.get("technique"), str):
        raise RecipeError("FER-REC-003", f'A step is {data!r}; {{"technique": NAME, "options": {{…}}}} is needed.')
    _check_keys(data, {"technique", "options"}, "a step")
    options = data.get("options", {})
    if not isinstance(options, Mapping):
        raise RecipeError("FER-REC-003", f"'options' is {options!r}; an object is needed.")
    return _make_step(data["technique"], options)


def _make_step(name: str, options: Mapping[str, Any]) -> Step:
    found = find_technique(name)
    if found is None:
        raise _unknown(name)
    technique, numbers = found
    twice = sorted(set(numbers) & set(options))
    if twice:
        raise RecipeError("FER-REC-003", f"Step {name!r} gives {twice[0]!r} in its name and among its options.")
    technique.read_options({**options, **numbers})
    return Step(technique.name, {**options, **numbers})


def load_recipe(spec: str | Path | Mapping[str, Any] | Recipe) -> Recipe:
    """A recipe from a preset's name, a JSON file or its content; raises RecipeError FER-REC-001/-003."""
    if isinstance(spec, Recipe):
        Recipe.from_json(spec.to_json())  # one made by hand gets the same checks as a file
        return spec
    if isinstance(spec, Mapping):
        return Recipe.from_json(spec, "custom")
    text = str(spec)
    if text.endswith(".json"):
        return _read_file(Path(text))
    preset = PRESETS / f"{text}.json"
    if text in preset_names() and preset.is_file():
        return _read_file(preset)
    names = _split(text)
    if names is None:
        raise _unknown(text)
    steps = tuple(_make_step(name, {}) for name in names)
    return Recipe(text, steps, min(TECHNIQUES[step.technique].min_cosine for step in steps))


def _split(text: str) -> list[str] | None:
    """Techniques joined by `-`, the longest names first, since some have a `-` of their own."""
    parts = text.split("-")
    for count in range(len(parts), 0, -1):
        head = "-".join(parts[:count])
        if find_technique(head) is None:
            continue
        rest = _split("-".join(parts[count:])) if count < len(parts) else []
        if rest is not None:
            return [head, *rest]
    return None


def preset_names() -> list[str]:
    """Presets that are files and techniques that are presets by themselves."""
    techniques = {name for row in TECHNIQUES.values() for name in row.names()}
    return sorted({p.stem for p in PRESETS.glob("*.json")} | techniques)


def _read_file(path: Path) -> Recipe:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError("FER-REC-003", f"Recipe file {path} cannot be read: {reason}.", "Check the path.") from error
    except json.JSONDecodeError as error:
        raise RecipeError("FER-REC-003", f"Recipe file {path} is not JSON: {error}.") from error
    if not isinstance(data, Mapping):
        raise RecipeError("FER-REC-003", f"Recipe file {path} holds a {type(data).__name__}; an object is needed.")
    return Recipe.from_json(data, path.stem)


def _check_keys(data: Mapping[str, Any], allowed: set[str], what: str) -> None:
    unknown = sorted(set(data) - allowed)
    if unknown:
        raise RecipeError("FER-REC-003", f"Unknown keys {unknown} in {what}; allowed: {sorted(allowed)}.")


def _unknown(name: str) -> RecipeError:
    close = get_close_matches(name, preset_names(), n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return RecipeError(
        "FER-REC-001",
        f"Recipe or technique {name!r} is not known; known: {', '.join(preset_names())}.",
        f"{hint}Join techniques by '-' (w8a8-emb8, tome8-w8a8) or give a .json file.",
    )
