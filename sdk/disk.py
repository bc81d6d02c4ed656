"""Folders that several builds may use at once, and that a kill at any moment must leave whole.

What is being made stands in a hidden folder beside its place and is moved there when it is finished. A lock on that
hidden folder lasts as long as the process that made it, so that a later build can tell what a killed one left.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ferrule.errors import OutputError

__all__ = [
    "FULL",
    "check_room",
    "copy_file",
    "file_facts",
    "full_disk",
    "hold",
    "is_full",
    "locked",
    "output_errors",
    "remove_tree",
    "staging",
    "swap",
    "sweep",
]

try:
    import fcntl
except ImportError:  # no POSIX: builds work there, one at a time in a folder
    fcntl = None  # type: ignore[assignment]

PREFIX, ASIDE = ".ferrule-", ".ferrule-old-"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FULL_BYTES = 1 << 20  # whoever failed while less than this was free has failed for lack of room
BLOCK = 4096  # files take whole blocks
LOOSE_SECONDS = 3600.0  # a partial file, which has no lock, is left over when it is older than this
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of renameat2(2)


def hold(path: Path, shared: bool = False, wait: bool = False) -> int | None:
    """Lock a folder or file until the descriptor is closed or the process ends; None if others hold it or it is gone.

    Where the file system has no locks the descriptor comes without one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    if fcntl is None:
        return descriptor
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        pass
    return descriptor


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process (or thread) at a time; for moments, not for work. Leaves no file behind."""
    descriptor = hold(folder, wait=True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A hidden folder beside the destination, gone afterwards whatever happens; `sweep` removes it after a kill."""
    parent.mkdir(parents=True, exist_ok=True)
    with locked(parent):  # else a sweep could come between the two steps
        stage = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        descriptor = hold(stage)
    try:
        os.chmod(stage, 0o755)
        yield stage
    finally:
        remove_tree(stage)
        if descriptor is not None:
            os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove what killed processes left in a folder; a bundle that one of them had set aside is put back."""
    if fcntl is None:
        return
    with locked(parent), suppress(OSError):
        for path in parent.glob(f"{PREFIX}*"):
            if not path.is_dir():
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > LOOSE_SECONDS:
                        path.unlink()
                continue
            descriptor = hold(path)
            if descriptor is None:
                continue
            if path.name.startswith(ASIDE):
                _put_back(path)
            remove_tree(path)
            os.close(descriptor)


def swap(stage: Path, out: Path) -> None:
    """Put a finished folder in place, in one step where the system can; what stood there before is removed."""
    with locked(out.parent):
        if not out.exists():
            os.replace(stage, out)
        elif not _exchange(stage, out):
            _replace_in_two_steps(stage, out)


def _exchange(left: Path, right: Path) -> bool:
    """Exchange two folders atomically (Linux); False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(_HERE, os.fsencode(left), _HERE, os.fsencode(right), _EXCHANGE) == 0)


def _replace_in_two_steps(stage: Path, out: Path) -> None:
    """The old folder is set aside first, and comes back if the second step fails, or by `sweep` after a kill."""
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=out.parent))
    descriptor = hold(aside)
    try:
        os.replace(out, aside / out.name)
        os.replace(stage, out)
    finally:
        _put_back(aside)
        remove_tree(aside)
        if descriptor is not None:
            os.close(descriptor)


def _put_back(aside: Path) -> None:
    for old in aside.iterdir():
        if not (aside.parent / old.name).exists():
            os.replace(old, aside.parent / old.name)


def remove_tree(path: Path) -> None:
    """Delete a folder if it is there."""
    shutil.rmtree(path, ignore_errors=True)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content; file systems that can share blocks until one side is written do so."""
    if not hasattr(os, "copy_file_range"):
        shutil.copyfile(source, target)
        return
    with source.open("rb") as reader, target.open("wb") as writer:
        left = os.fstat(reader.fileno()).st_size
        try:
            while left > 0 and (done := os.copy_file_range(reader.fileno(), writer.fileno(), left)):
                left -= done
        except OSError as error:
            if error.errno in FULL:
                raise
            left = -1  # across file systems, on old kernels
    if left:
        shutil.copyfile(source, target)


def file_facts(path: Path) -> dict[str, Any]:
    """`sha256` and `bytes` of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": digest, "bytes": os.fstat(file.fileno()).st_size}


def check_room(folder: Path, sizes: Mapping[str, int]) -> None:
    """Refuse files that would not fit, before any of them is written; raises OutputError FER-OUT-003."""
    needed = sum(-(-size // BLOCK) * BLOCK for size in sizes.values()) + BLOCK * 8
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise full_disk(folder, needed)


def full_disk(folder: Path, needed: int) -> OutputError:
    """The refusal for want of room; needed: bytes, about."""
    free = shutil.disk_usage(folder).free
    return OutputError(
        "FER-OUT-003",
        f"No room in {folder}: about {needed / 1e6:.2f} MB are needed there, {free / 1e6:.2f} MB are free.",
        "Free some space, or give another folder by -o.",
    )


def is_full(error: BaseException | None, folder: Path) -> bool:
    """Whether a failure comes from a full disk: the system said so, or hardly anything is free where it worked."""
    while error is not None:
        if getattr(error, "errno", None) in FULL or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    with suppress(OSError):
        return shutil.disk_usage(folder).free < FULL_BYTES
    return False


@contextmanager
def output_errors(out: Path, needed: int = 0) -> Iterator[None]:
    """Turn the system's refusals to write `out` into OutputError FER-OUT-001, a full disk into FER-OUT-003."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise full_disk(_nearest(out), needed) from error
        raise OutputError(
            "FER-OUT-001",
            f"{out} cannot be written: {error.strerror or error}.",
            "Give a folder with write permission by -o.",
        ) from error


def _nearest(path: Path) -> Path:
    """The path, or the first folder above it that is there."""
    return next((p for p in (path, *path.parents) if p.is_dir()), Path("."))
