"""A YAML or JSON file as plain data that remembers on which line each value stands, so that errors can name it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.errors import ProjectError

__all__ = ["Document", "Where", "read_document"]

Where = tuple[str | int, ...]
"""Keys and indices that lead to a value."""

MOST_BYTES, MOST_VALUES = 1 << 20, 20_000  # of a file; aliases of YAML count each time they are used

PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True)
class Document:
    """The content of a file. lines: line, from 1, of each value; empty for JSON, whose reader does not tell them."""

    path: Path
    data: Any
    lines: Mapping[Where, int]

    def place(self, where: Where) -> str:
        """`ferrule.yaml, line 4, models.vit.recipes[0]`."""
        line = f", line {self.lines[where]}" if where in self.lines else ""
        keys = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where).removeprefix(".")
        return f"{self.path}{line}{f', {keys}' if keys else ''}"


def read_document(path: Path) -> Document:
    """Read `.yaml`, `.yml` or `.json`; nothing in the file is executed.

    Raises ProjectError FER-PRJ-001 (unreadable), -002 (syntax), -003 (a key twice).
    """
    try:
        if path.is_file() and path.stat().st_size > MOST_BYTES:
            raise ProjectError("FER-PRJ-001", f"{path} has more than {MOST_BYTES >> 20} MiB; a project file is small.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ProjectError(
            "FER-PRJ-001",
            f"Project file {path} cannot be read: {reason}.",
            "Give its path by -f, or write one with `ferrule init`.",
        ) from error
    return _read_json(path, text) if path.suffix == ".json" else _read_yaml(path, text)


def _read_json(path: Path, text: str) -> Document:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in items]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ProjectError("FER-PRJ-003", f"{path}: key {twice[0]!r} stands twice in one object.", "Keep one.")
        return dict(items)

    try:
        return Document(path, json.loads(text, object_pairs_hook=pairs), {})
    except (json.JSONDecodeError, RecursionError) as error:
        raise ProjectError("FER-PRJ-002", f"{path} is not JSON: {error}.") from error


def _read_yaml(path: Path, text: str) -> Document:
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        told = error.problem or error.context
        raise ProjectError(
            "FER-PRJ-002", f"{path}{line}: not YAML: {told}.", "Check indentation and colons."
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ProjectError("FER-PRJ-002", f"{path} is not YAML: {first}.") from error
    reader = _Nodes(path, {})
    return Document(path, None if root is None else reader.value(root, ()), reader.lines)


@dataclass(frozen=True)
class _Nodes:
    """Turns YAML's nodes into values and keeps their lines."""

    path: Path
    lines: dict[Where, int]

    def value(self, node: Any, where: Where) -> Any:
        import yaml

        self.lines[where] = node.start_mark.line + 1
        if len(self.lines) > MOST_VALUES or len(where) > 50:
            raise ProjectError("FER-PRJ-002", f"{self.path} holds too many or too deep values.", "Drop its aliases.")
        if not isinstance(node, yaml.ScalarNode) and node.tag not in PLAIN:
            raise ProjectError("FER-PRJ-002", f"{self._line(node)}: tag {node.tag!r} is not taken.", "Drop the tag.")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*where, index)) for index, item in enumerate(node.value)]
        try:
            return yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            told = getattr(error, "problem", None) or error
            raise ProjectError("FER-PRJ-002", f"{self._line(node)}: {told}.", "Plain text, numbers, lists.") from error

    def _mapping(self, node: Any, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, (*where, "key"))
            if not isinstance(key, str):
                hint = "Put it in quotes."
                raise ProjectError("FER-PRJ-003", f"{self._line(key_node)}: key {key!r} is no text.", hint)
            if key in found:
                raise ProjectError("FER-PRJ-003", f"{self._line(key_node)}: key {key!r} stands twice.", "Keep one.")
            found[key] = self.value(value_node, (*where, key))
            self.lines[*where, key] = key_node.start_mark.line + 1
        return found

    def _line(self, node: Any) -> str:
        return f"{self.path}, line {node.start_mark.line + 1}"
