"""Where an op came from: the user's source line behind a node, and the node's name carried through re-exports.

Every pass and toolkit makes graphs of its own with names of its own. Before any of them runs, `mark_origins` writes
each node's name into the one field of a node that torch copies along; `origin` reads it from whatever became of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ferrule.model import Captured

__all__ = ["Places", "layer_of", "mark_origins", "origin", "place", "source_line", "whereabouts"]

Places = Mapping[str, Mapping[str, str]]
"""Entry point -> name of a node of its captured graph -> `whereabouts`."""

_KEY = "ferrule_origin"

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_TOOLKITS = ("/site-packages/torch/", "/site-packages/executorch/", "/site-packages/torchao/")


def source_line(node: Any) -> str:
    """`folder/file.py:line` of the innermost frame that is neither a toolkit's nor Ferrule's, or an empty string.

    Only the last two parts of the path: the line goes into bundles, which do not depend on where a checkout lies.
    """
    for path, number in reversed(_FRAME.findall(node.meta.get("stack_trace") or "")):
        if not path.startswith("<") and not _is_ours(path) and not any(part in path for part in _TOOLKITS):
            return f"{'/'.join(Path(path).parts[-2:])}:{number}"
    return ""


def layer_of(node: Any) -> str:
    """Path of the innermost module that the node ran in, empty for the model itself."""
    layers = list((node.meta.get("nn_module_stack") or {}).values())
    return str(layers[-1][0]) if layers else ""


def whereabouts(node: Any) -> str:
    """The source line; where none of the user's is known, the path of the layer, or the class of the model itself."""
    layers = list((node.meta.get("nn_module_stack") or {}).values())
    kind = layers[-1][1] if layers else ""
    return source_line(node) or layer_of(node) or str(getattr(kind, "__qualname__", kind)).rpartition(".")[2]


def place(node: Any) -> str:
    """` in layer NAME at folder/file.py:line`, as far as known, for messages."""
    layer = layer_of(node)
    line = source_line(node)
    return (f" in layer {layer!r}" if layer else "") + (f" at {line}" if line else "")


def mark_origins(graphs: Mapping[str, Captured]) -> Places:
    """Have every op of captured graphs remember its name, and tell where each came from."""
    places: dict[str, dict[str, str]] = {}
    for name, graph in graphs.items():
        nodes = [node for node in graph.program.graph.nodes if node.op == "call_function"]
        for node in nodes:
            node.meta["custom"] = {**(node.meta.get("custom") or {}), _KEY: node.name}
        places[name] = {node.name: whereabouts(node) for node in nodes}
    return places


def origin(node: Any) -> str:
    """Name of the captured graph's node that this node was made from, empty where a toolkit made it by itself."""
    return str((node.meta.get("custom") or {}).get(_KEY, ""))


def _is_ours(path: str) -> bool:
    return Path(path).resolve().is_relative_to(_here()[0]) or Path(path).resolve().is_relative_to(_here()[1])


@lru_cache(maxsize=1)
def _here() -> tuple[Path, Path]:
    import ferrule

    return Path(ferrule.__file__).resolve().parent, Path(__file__).resolve().parent
