"""Calibration data: a file of sentences or arrays, read as inputs of the model and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ferrule.model import EntryPoint, Model

__all__ = ["check_inputs", "fit_inputs", "load_calibration"]


def load_calibration(path: str | Path, model: Model, limit: int = 128) -> list[Mapping[str, Tensor]]:
    """At most `limit` inputs from a file: `.txt` (a sentence a line), `.npz` or `.safetensors` (arrays by input name,
    first axis = samples).

    Raises InputError FER-INP-004 (name), -005 (shape), -006 (dtype, NaN), -007 (empty), -008 (unreadable).
    """
    import torch

    path = Path(path)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise InputError("FER-INP-008", f"Calibration file {path} {found}.", "Give .txt, .npz or .safetensors.")
    rows = _read_text(path, model, limit) if path.suffix == ".txt" else _read_arrays(path, model, limit)
    if not rows:
        raise InputError("FER-INP-007", f"Calibration file {path} holds no sample.")
    entry = model.entry_points[model.policy.entry_point]
    data = []
    for index, row in enumerate(rows):
        what = f"sample {index} of {path}"
        try:
            tensors = {name: torch.from_numpy(np.array(value)) for name, value in row.items()}
        except (TypeError, ValueError) as error:
            told = str(error).rstrip(".")
            raise InputError("FER-INP-006", f"{what}: {told}.", "Give arrays of numbers.") from error
        data.append(fit_inputs(tensors, entry, what))
    return data


def _read_text(path: Path, model: Model, limit: int) -> list[Mapping[str, Any]]:
    from ferrule.text import tokenize

    tokenizer = model.processing.get("tokenizer")
    if not tokenizer or tokenizer not in model.assets:
        raise InputError(
            "FER-INP-004",
            f"{path} is text, and {model.source} has no tokenizer.",
            "Give .npz or .safetensors with arrays by input name.",
        )
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("FER-INP-008", f"Calibration file {path} cannot be read: {error}.") from error
    if not lines:
        return []
    names = model.entry_points[model.policy.entry_point].inputs
    length = min(int(model.processing.get("max_length", 128)), 128)
    return list(tokenize(model.assets[tokenizer], lines[:limit], length, names))


def _read_arrays(path: Path, model: Model, limit: int) -> list[Mapping[str, Any]]:
    arrays = _load_arrays(path)
    names = set(model.entry_points[model.policy.entry_point].inputs)
    if set(arrays) != names:
        raise InputError(
            "FER-INP-004", f"{path} holds arrays {sorted(arrays)}; the model's inputs are {sorted(names)}."
        )
    counts = {name: len(a) if a.ndim else 0 for name, a in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError("FER-INP-005", f"{path} holds different numbers of samples: {counts}.")
    ranks = {k: v.dim() for k, v in model.entry_points[model.policy.entry_point].inputs.items()}
    # An array [samples, 3, 224, 224] for an input [1, 3, 224, 224] is what people have: keep the batch axis then.
    samples = range(min(limit, *counts.values()))
    return [{k: a[i : i + 1] if a.ndim == ranks[k] else a[i] for k, a in arrays.items()} for i in samples]


def _load_arrays(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
    except Exception as error:
        raise InputError("FER-INP-008", f"Calibration file {path} cannot be read: {error}.") from error
    raise InputError(
        "FER-INP-008",
        f"Calibration file {path} is not .txt, .npz or .safetensors.",
        "Pictures and other data go into an .npz, as arrays by input name with samples along the first axis.",
    )


def fit_inputs(inputs: Mapping[str, Tensor], entry: EntryPoint, what: str) -> Mapping[str, Tensor]:
    """The inputs in the order of the entry point's forward, which is how they are passed; see `check_inputs`."""
    check_inputs(inputs, entry, what)
    return {name: inputs[name] for name in entry.inputs}


def check_inputs(inputs: Mapping[str, Tensor], entry: EntryPoint, what: str) -> None:
    """Refuse inputs that do not fit the entry point's names, shapes (dynamic axes within range) and dtypes.

    Raises InputError FER-INP-002 (no tensor), -004 (names), -005 (shape), -006 (dtype, NaN).
    """
    import torch

    if set(inputs) != set(entry.inputs):
        raise InputError(
            "FER-INP-004", f"{what} has inputs {sorted(inputs)}; the model's inputs are {sorted(entry.inputs)}."
        )
    for name, example in entry.inputs.items():
        value = inputs[name]
        if not isinstance(value, torch.Tensor):
            raise InputError("FER-INP-002", f"{what}: {name!r} is a {type(value).__name__}; a torch.Tensor is needed.")
        free = entry.dynamic.get(name, {})
        fits = value.dim() == example.dim() and all(
            free[axis].min <= length <= free[axis].max if axis in free else length == example.shape[axis]
            for axis, length in enumerate(value.shape)
        )
        if not fits:
            allowed = [
                f"{free[a].name} {free[a].min}..{free[a].max}" if a in free else str(n)
                for a, n in enumerate(example.shape)
            ]
            raise InputError(
                "FER-INP-005", f"{what}: {name!r} has shape {list(value.shape)}; allowed: [{', '.join(allowed)}]."
            )
        if value.dtype != example.dtype:
            raise InputError("FER-INP-006", f"{what}: {name!r} is {value.dtype}; {example.dtype} is needed.")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InputError("FER-INP-006", f"{what}: {name!r} holds NaN or infinite values.")
