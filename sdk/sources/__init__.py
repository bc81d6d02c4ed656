"""Where models come from: `load_model(spec)` reads the spec's form and calls the one file that knows it."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ferrule.errors import SourceError

if TYPE_CHECKING:
    from ferrule.model import Model

__all__ = ["FORMS", "find_source", "load_model", "source_files"]

FORMS = {
    "sample:NAME": "a model that comes in a registry package (sample:minilm)",
    "hf:DIRECTORY": "a transformers checkpoint in a local directory",
    "timm:NAME[@FILE]": "an architecture of timm, with weights from FILE (else random ones)",
    "FILE.py:FUNCTION": "a function that returns a module with its example inputs",
    "FILE.pt2": "a program saved by torch.export.save",
}


def load_model(spec: str) -> Model:
    """The Model behind a spec (see `FORMS`); raises SourceError FER-SRC-001 listing the forms."""
    module, rest = find_source(spec)
    model: Model = import_module(module).load(rest)
    return model


def source_files(spec: str) -> tuple[str, list[Path]] | None:
    """A label and files that together settle what a spec loads; None where the user's code does, or none is there."""
    module, rest = find_source(spec)
    tell = getattr(import_module(module), "files", None)
    found: tuple[str, list[Path]] | None = tell(rest) if tell else None
    return found


def find_source(spec: str) -> tuple[str, str]:
    """The module that knows the spec's form, and what it is to be given; raises SourceError FER-SRC-001."""
    prefix, colon, rest = spec.partition(":")
    if colon and rest and prefix in ("sample", "hf", "timm"):
        return f"ferrule.sources.{prefix}", rest
    if spec.endswith(".pt2"):
        return "ferrule.sources.pt2", spec
    path, colon, function = spec.rpartition(":")
    if colon and path.endswith(".py") and function:
        return "ferrule.sources.python_file", spec
    forms = "; ".join(f"{form} ({what})" for form, what in FORMS.items())
    raise SourceError("FER-SRC-001", f"{spec!r} is not a model spec; the forms are: {forms}.", _meant(spec))


def _meant(spec: str) -> str:
    """What a spec without its form probably stands for."""
    if spec.endswith(".py"):
        return f"Name the function too: {spec}:FUNCTION."
    if (Path(spec) / "config.json").is_file():
        return f"Did you mean 'hf:{spec}'?"
    from ferrule.sources.sample import SAMPLES

    close = get_close_matches(spec.removeprefix("sample"), SAMPLES, n=1)
    return f"Did you mean 'sample:{close[0]}'?" if close else ""
