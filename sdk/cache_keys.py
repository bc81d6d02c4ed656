"""Keys of the cache: everything that a result depends on, read without loading torch or a model.

A key holds the content of files, never their place or time. The code that makes a result is a part of it too: this
package's own files, and the versions of the toolkits.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.atomic import write_json
from ferrule.cache import Store
from ferrule.device_profiles import load, to_data
from ferrule.disk import file_facts
from ferrule.recipe import Recipe
from ferrule.sources import source_files

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["file_digest", "lowered_key", "pass_key", "prepared_key", "source_digest", "versions"]

PACKAGES = ("ferrule", "ferrule.converters", "ferrule.device_profiles", "ferrule.runtime")
TOOLKITS = (
    "ai-edge-litert",
    "ai-edge-quantizer",
    "coremltools",
    "executorch",
    "litert-torch",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxscript",
    "safetensors",
    "timm",
    "tokenizers",
    "torch",
    "torchao",
    "torchvision",
    "transformers",
)
# What shows results and what is a part of keys by itself.
NEVER = ("cli", "report", "demo", "device_profiles/data")
NOT_FOR_LOWERING = ("techniques", "sources", "recipes", "data")
NOT_FOR_PASSES = ("sources", "recipes", "data", "converters", "runtime", "device_profiles")
SETTLED = 2_000_000_000  # ns: a file changed more recently may change again within one tick of its clock


@lru_cache(maxsize=4)
def source_digest(without: tuple[str, ...] = ()) -> str:
    """sha256 over this package's files, but those in the folders named."""
    digest = hashlib.sha256()
    for name in PACKAGES:
        top = Path(str(import_module(name).__file__)).parent
        inner = name.partition(".")[2]
        skip = {*NEVER, *without, *(p.partition(".")[2] for p in PACKAGES[1:] if not inner)}
        for label, path in _walk(top, inner, skip):
            content = path.read_bytes()
            digest.update(f"{label} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _walk(folder: Path, label: str, skip: set[str]) -> Iterable[tuple[str, Path]]:
    if label in skip:
        return
    for path in sorted(folder.iterdir()):
        inner = f"{label}/{path.name}".lstrip("/")
        if path.is_dir():
            if path.name != "__pycache__":
                yield from _walk(path, inner, skip)
        elif path.suffix != ".pyc":
            yield inner, path


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of what converts and runs; a toolkit that is absent has none."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in TOOLKITS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def prepared_key(store: Store, spec: str, recipe: Recipe, calibration: str | Path | None) -> dict[str, Any] | None:
    """What a model under a recipe depends on; None where that cannot be told without running the user's code.

    A recipe's name and bound are no part of it: they change no weight.
    """
    found = source_files(spec)
    if found is None:
        return None
    label, files = found
    try:
        content = {path.name: file_digest(store, path) for path in files}
        data = None if calibration is None else [Path(calibration).suffix, file_digest(store, Path(calibration))]
    except OSError:  # absent or unreadable: for the source to say
        return None
    return {
        "source": label,
        "files": content,
        "steps": recipe.to_json()["steps"],
        "calibration": data,
        "code": source_digest(("runtime",)),
        "versions": versions(),
    }


def lowered_key(content: str, device: str, target: str, expand: bool, kernels: bool) -> dict[str, Any]:
    """What an artefact and its parity depend on. content: of the graphs and the proof, see `Prepared`."""
    profile = json.dumps(to_data(load(device)), sort_keys=True)
    return {
        "content": content,
        "device": device,
        "profile": hashlib.sha256(profile.encode()).hexdigest(),
        "target": target,
        "expand": expand,
        "kernels": kernels,
        "code": source_digest(NOT_FOR_LOWERING),
        "versions": versions(),
    }


def pass_key(kind: str, parts: Iterable[bytes | str | int | float | None | Tensor]) -> dict[str, Any]:
    """See `ferrule.cache.remembered`."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            head, body = "bytes", memoryview(part)
        elif part is None or isinstance(part, str | int | float):
            head, body = type(part).__name__, memoryview(repr(part).encode())
        else:
            head, body = f"{part.dtype} {tuple(part.shape)}", _tensor_bytes(part)
        digest.update(f"{head} {len(body)}\n".encode())
        digest.update(body)
    return {
        "kind": kind,
        "parts": digest.hexdigest(),
        "code": source_digest(NOT_FOR_PASSES),
        "torch": versions().get("torch", ""),
        "machine": platform.machine(),
    }


def _tensor_bytes(tensor: Tensor) -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy() if flat.numel() else b"")


def file_digest(store: Store, path: Path) -> str:
    """sha256 of a file, remembered for as long as size, inode and times stay as they were; raises OSError."""
    real = path.resolve()
    stat = real.stat()
    seen = [stat.st_size, stat.st_ino, stat.st_dev, stat.st_mtime_ns, stat.st_ctime_ns]
    memo = store.root / "stat" / f"{hashlib.sha256(os.fsencode(real)).hexdigest()}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known: Mapping[str, Any] = json.loads(memo.read_text())
        if known["stat"] == seen:
            return str(known["sha256"])
    digest = str(file_facts(real)["sha256"])
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > SETTLED:
        with suppress(OSError):
            memo.parent.mkdir(exist_ok=True)
            write_json(memo, {"stat": seen, "sha256": digest})
    return digest
