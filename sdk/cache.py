"""Cache: what costs time is kept by the content of all that it was made from, and checked when it is used again.

    <folder>/<kind>/<sha256 of the key>/entry.json     key, sha256 and size of each file, data
                                       /…              the files

Kinds: `prepared` (a model under a recipe, captured), `lowered` (an artefact with its proof), `pass` (one layer's
encoding). An entry is whole or absent, whatever is killed; a damaged one is dropped and made again. The folder is
`FERRULE_CACHE` (`off` for no cache) or `ferrule` in the user's cache folder, its size at most `FERRULE_CACHE_LIMIT`
(10GB): entries not used for longest go first, those in use stay. A cache that fails never fails a build.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.disk import copy_file, file_facts, hold, remove_tree, staging, sweep
from ferrule.errors import UsageError
from ferrule.logs import logger

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KINDS", "Entry", "Store", "clear", "find", "keep", "off", "open_store", "remembered", "trim", "usage"]

KINDS = ("prepared", "lowered", "pass")
SCHEMA = 1
LIMIT = "10GB"
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# Programs that make backups leave folders with this file out.\n"
_OFF: ContextVar[bool] = ContextVar("ferrule_cache_off", default=False)


@dataclass(frozen=True)
class Store:
    """A cache folder and the most bytes that it keeps."""

    root: Path
    limit: int


@dataclass(frozen=True, eq=False)
class Entry:
    """A kept result whose files were just checked. It is not evicted while this object lives.

    files: name -> `sha256` and `bytes`. data: what was kept beside the files.
    """

    root: Path
    files: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Any]


@contextmanager
def off() -> Iterator[None]:
    """No cache within, whatever the environment says."""
    token = _OFF.set(True)
    try:
        yield
    finally:
        _OFF.reset(token)


def open_store() -> Store | None:
    """The cache of this process; None when it is off or its folder cannot be written.

    Raises UsageError FER-USE-002 for a FERRULE_CACHE_LIMIT that is no size.
    """
    if _OFF.get():
        return None
    return _open_store(os.environ.get("FERRULE_CACHE", ""), os.environ.get("FERRULE_CACHE_LIMIT", ""))


@lru_cache(maxsize=8)
def _open_store(folder: str, limit: str) -> Store | None:
    store = Store(Path(folder).expanduser().absolute() if folder else _user_folder(), _read_size(limit or LIMIT))
    if folder.lower() in ("off", "0", "no", "false"):
        return None
    try:
        store.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (store.root / "CACHEDIR.TAG").exists():
            (store.root / "CACHEDIR.TAG").write_text(TAG)
    except OSError as error:
        logger.warning("no cache: %s cannot be written: %s", store.root, error.strerror or error)
        return None
    return store


def _user_folder() -> Path:
    if sys.platform == "darwin":
        return Path("~/Library/Caches/ferrule").expanduser()
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    return (Path(given) if given else Path("~/.cache").expanduser()) / "ferrule"


def _read_size(text: str) -> int:
    number = text.strip().upper().rstrip("KMGTB")
    unit = text.strip().upper()[len(number) :]
    try:
        size = float(number) * UNITS[unit.strip()]
        return int(size) if size >= 0 else int("")
    except (ValueError, KeyError, OverflowError):
        raise UsageError(
            "FER-USE-002", f"FERRULE_CACHE_LIMIT is {text!r}; a size is needed.", "Like 500MB or 20GB."
        ) from None


def find(store: Store, kind: str, key: Mapping[str, Any]) -> Entry | None:
    """The entry kept under a key, with every file checked against its sha256; a damaged one is dropped."""
    folder = _folder(store, kind, key)
    descriptor = hold(folder / "entry.json", shared=True)
    if descriptor is None:
        if folder.is_dir() and not (folder / "entry.json").exists():
            _drop(store, folder, "entry.json is missing")
        return None
    entry, problem = _read(folder)
    if entry is None:
        _drop(store, folder, problem)
        os.close(descriptor)
        return None
    weakref.finalize(entry, os.close, descriptor)
    with suppress(OSError):  # a cache that others may only read
        os.utime(folder / "entry.json")
    return entry


def _read(folder: Path) -> tuple[Entry | None, str]:
    """The entry, or what is wrong with it."""
    try:
        told = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        if told.pop("digest") != _digest(told):
            return None, "entry.json was changed"
        for name, facts in told["files"].items():
            path = folder / name
            if path.stat().st_size != facts["bytes"] or file_facts(path) != facts:
                return None, f"{name} was changed"
        return Entry(folder, told["files"], told["data"]), ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"{type(error).__name__}: {error}"


def keep(
    store: Store, kind: str, key: Mapping[str, Any], files: Mapping[str, Path | bytes], data: Mapping[str, Any]
) -> None:
    """Copy files and data in under a key; a failure, such as a full disk, is logged and nothing more."""
    folder = _folder(store, kind, key)
    try:
        with staging(store.root) as stage:
            told: dict[str, Any] = {"schema": SCHEMA, "kind": kind, "key": key, "data": data, "files": {}}
            for name, source in files.items():
                target = stage / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(source, bytes):
                    target.write_bytes(source)
                else:
                    copy_file(source, target)
                told["files"][name] = file_facts(target)
            text = json.dumps({**told, "digest": _digest(told)}, indent=1)
            (stage / "entry.json").write_text(text, encoding="utf-8")
            folder.parent.mkdir(exist_ok=True)
            if not folder.exists():
                os.rename(stage, folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was first
            logger.warning("not kept in the cache: %s", error)


def _drop(store: Store, folder: Path, why: str = "") -> None:
    """Take an entry out of reach in one step, then delete it."""
    if why:
        logger.warning("cache: %s/%s is damaged (%s) and is made again", folder.parent.name, folder.name[:12], why)
    with suppress(OSError), staging(store.root) as stage:
        os.rename(folder, stage / "dropped")


def _folder(store: Store, kind: str, key: Mapping[str, Any]) -> Path:
    return store.root / kind / _digest(key)


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _entries(store: Store) -> list[tuple[float, int, Path]]:
    """Time of last use, bytes and folder of every entry."""
    found = []
    for kind in KINDS:
        for folder in (store.root / kind).glob("*"):
            with suppress(OSError):
                used = (folder / "entry.json").stat().st_mtime
                found.append((used, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()), folder))
    return found


def usage(store: Store) -> dict[str, dict[str, int]]:
    """kind -> `entries` and `bytes`."""
    found = {kind: {"entries": 0, "bytes": 0} for kind in KINDS}
    for _, size, folder in _entries(store):
        found[folder.parent.name]["entries"] += 1
        found[folder.parent.name]["bytes"] += size
    return found


def trim(store: Store) -> None:
    """Keep to the limit: drop what was not used for longest, but nothing that is in use."""
    sweep(store.root)
    entries = sorted(_entries(store))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in entries:
        if total <= store.limit:
            break
        if _drop_unused(store, folder):
            total -= size
            logger.info("cache: dropped %s/%s to keep to the limit", folder.parent.name, folder.name[:12])


def clear(store: Store) -> tuple[int, int]:
    """Drop everything that no build is using; returns how many entries were dropped and how many are in use."""
    sweep(store.root)
    dropped = [_drop_unused(store, folder) for _, _, folder in _entries(store)]
    remove_tree(store.root / "stat")
    return sum(dropped), len(dropped) - sum(dropped)


def _drop_unused(store: Store, folder: Path) -> bool:
    descriptor = hold(folder / "entry.json")
    if descriptor is None:
        return False
    _drop(store, folder)
    os.close(descriptor)
    return not folder.exists()


def remembered(
    kind: str,
    parts: Iterable[bytes | str | int | float | None | Tensor],
    compute: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """What `compute` returns, kept by `kind` and the content of `parts`, and by the code of the techniques.

    parts: all that the result depends on: weights, options, importance. Tensors count by dtype, shape and bytes.
    """
    store = open_store()
    if store is None:
        return compute()
    import safetensors.torch

    from ferrule.cache_keys import pass_key

    key = pass_key(kind, parts)
    entry = find(store, "pass", key)
    if entry is not None:
        return dict(safetensors.torch.load((entry.root / "tensors.safetensors").read_bytes()))
    made = compute()
    plain = {name: tensor.detach().contiguous() for name, tensor in made.items()}
    keep(store, "pass", key, {"tensors.safetensors": safetensors.torch.save(plain)}, {})
    return made
