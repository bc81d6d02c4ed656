"""The inputs on which all are measured: the model's own proof inputs, at each length, as arrays in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.model import Model

__all__ = ["PROOFS", "Arrays", "fit_length", "read_arrays", "take_proofs", "write_arrays"]

PROOFS = 20
"""Inputs on which results are compared."""

Arrays = Mapping[str, "NDArray[Any]"]


def fit_length(model: Model, inputs: Arrays, length: int, repeat: bool) -> dict[str, NDArray[Any]]:
    """Inputs at a length of the dynamic axis, 0 for as they are: repeated from their begin, or filled with padding."""
    entry = model.entry_points["forward"]
    fitted = {}
    for name, array in inputs.items():
        for axis in entry.dynamic.get(name, {}) if length else ():
            have = array.shape[axis]
            if repeat or have >= length:
                array = np.take(array, np.arange(length) % have, axis)
            else:
                widths = [(0, length - have if i == axis else 0) for i in range(array.ndim)]
                array = np.pad(array, widths, constant_values=entry.padding[name])
        fitted[name] = np.ascontiguousarray(array)
    return fitted


def take_proofs(model: Model, length: int) -> list[dict[str, NDArray[Any]]]:
    """Some proof inputs, padded to a length."""
    rows = ({name: tensor.numpy() for name, tensor in row.items()} for row in model.proofs()[:PROOFS])
    return [fit_length(model, row, length, False) for row in rows]


def write_arrays(path: Path, rows: Sequence[Arrays]) -> None:
    """A list of named arrays in an .npz file."""
    np.savez(path, **{f"{number}/{name}": array for number, row in enumerate(rows) for name, array in row.items()})  # type: ignore[arg-type]


def read_arrays(path: Path) -> list[dict[str, NDArray[Any]]]:
    """What `write_arrays` wrote."""
    rows: dict[int, dict[str, NDArray[Any]]] = {}
    with np.load(path) as file:
        for key in file.files:
            number, _, name = key.partition("/")
            rows.setdefault(int(number), {})[name] = file[key]
    return [rows[number] for number in sorted(rows)]
