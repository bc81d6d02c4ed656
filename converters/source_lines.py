"""The user's source line behind a node of a captured graph."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["place", "source_line"]

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


def place(node: Any) -> str:
    """` in layer NAME at folder/file.py:line`, as far as known, for messages."""
    layers = list(node.meta.get("nn_module_stack", {}).values())
    layer = f" in layer {layers[-1][0]!r}" if layers and layers[-1][0] else ""
    line = source_line(node)
    return layer + (f" at {line}" if line else "")


def _is_ours(path: str) -> bool:
    return Path(path).resolve().is_relative_to(_here()[0]) or Path(path).resolve().is_relative_to(_here()[1])


@lru_cache(maxsize=1)
def _here() -> tuple[Path, Path]:
    import ferrule

    return Path(ferrule.__file__).resolve().parent, Path(__file__).resolve().parent
