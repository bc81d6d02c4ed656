"""`FILE.py:FUNCTION`: run a user's file and take what its function returns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isfunction
from pathlib import Path
from typing import Any

from ferrule.errors import FerruleError, SourceError
from ferrule.model import Model, as_model

__all__ = ["load"]

RETURNS = "a ferrule.Model, (module, example_inputs) or (module, example_inputs, dynamic axes)"


def load(spec: str) -> Model:
    """Call FUNCTION of FILE.py without arguments; raises SourceError FER-SRC-002 / -003 / -005."""
    path_text, _, name = spec.rpartition(":")
    path = Path(path_text).expanduser()
    if not path.is_file():
        raise SourceError("FER-SRC-002", f"{path} does not exist.", "Give FILE.py:FUNCTION.")
    with _importing_from(path.resolve().parent):
        module = _import(path)
        function = getattr(module, name, None)
        if not callable(function):
            there = [key for key, value in vars(module).items() if _is_own(value, module.__name__)]
            close = get_close_matches(name, there, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(there) or 'none'}."
            raise SourceError("FER-SRC-002", f"{path} has no function {name!r}.", hint)
        try:
            returned = function()
        except FerruleError:
            raise
        except (Exception, SystemExit) as error:
            raise SourceError("FER-SRC-003", f"{spec} raised {type(error).__name__}: {error}") from error
    return _as_model(spec, path, name, returned)


def _is_own(value: object, module: str) -> bool:
    """Whether a function was written in the file, not imported into it."""
    return isfunction(value) and value.__module__ == module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """The file's neighbours can be imported, from its top and from within its function."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.path.remove(str(folder))


def _import(path: Path) -> Any:
    spec = spec_from_file_location(f"_ferrule_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles in the file look themselves up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SourceError("FER-SRC-003", f"{path} fails to import: {type(error).__name__}: {error}") from error
    return module


def _as_model(spec: str, path: Path, name: str, returned: Any) -> Model:
    from dataclasses import replace

    from torch import nn

    source = f"{path.name}:{name}"
    if isinstance(returned, Model):
        return replace(returned, source=source)
    if isinstance(returned, tuple) and len(returned) in (2, 3) and isinstance(returned[0], nn.Module):
        return replace(as_model(*returned), source=source)
    raise SourceError("FER-SRC-005", f"{spec} returned a {type(returned).__name__}; it must return {RETURNS}.")
