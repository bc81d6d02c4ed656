"""Ferrule: bind a PyTorch model to a device.

    model ──compress──▶ Model ──lower──▶ Program ──pack──▶ Bundle ──run──▶ Session

`deploy` is that whole line for many devices at once; the single steps are here as well. Importing the
package loads neither torch nor any toolkit: each name below is looked up when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferrule.bundle import Bundle, check
    from ferrule.codec import Affine
    from ferrule.converters.locate import locate
    from ferrule.difference import Difference, diff
    from ferrule.errors import FerruleError
    from ferrule.flow import compress, deploy, lower, pack
    from ferrule.layer_loss import sensitivity
    from ferrule.model import Dim, EntryPoint, Model
    from ferrule.program import Program
    from ferrule.recipe import Recipe
    from ferrule.result import Result
    from ferrule.runtime.session import Session
    from ferrule.sources import load_model

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "Bundle",
    "Difference",
    "Dim",
    "EntryPoint",
    "FerruleError",
    "Model",
    "Program",
    "Recipe",
    "Result",
    "Session",
    "__version__",
    "check",
    "compress",
    "deploy",
    "diff",
    "load_model",
    "locate",
    "lower",
    "pack",
    "sensitivity",
]

_HOME = {
    "Affine": "ferrule.codec",
    "Bundle": "ferrule.bundle",
    "Difference": "ferrule.difference",
    "Dim": "ferrule.model",
    "EntryPoint": "ferrule.model",
    "FerruleError": "ferrule.errors",
    "Model": "ferrule.model",
    "Program": "ferrule.program",
    "Recipe": "ferrule.recipe",
    "Result": "ferrule.result",
    "Session": "ferrule.runtime.session",
    "check": "ferrule.bundle",
    "compress": "ferrule.flow",
    "deploy": "ferrule.flow",
    "diff": "ferrule.difference",
    "load_model": "ferrule.sources",
    "locate": "ferrule.converters.locate",
    "lower": "ferrule.flow",
    "pack": "ferrule.flow",
    "sensitivity": "ferrule.layer_loss",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ferrule' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
