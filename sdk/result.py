"""Parity and Result: what came of one target of a build."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Parity", "Result"]


@dataclass(frozen=True)
class Parity:
    """Agreement of an artefact with the eager float32 model over real inputs.

    cosine: the lowest over all inputs and outputs; cosine_mean: their mean; max_abs: the largest |difference|.
    fidelity: the lowest cosine to the eager *compressed* model (what the conversion alone changed).
    inputs: how many inputs were compared, and `source` says what they were.
    """

    cosine: float
    cosine_mean: float
    max_abs: float
    fidelity: float
    inputs: int
    source: str
    engine: str

    def to_json(self) -> dict[str, Any]:
        """Plain dict."""
        return asdict(self)


@dataclass(frozen=True)
class Result:
    """Outcome of one (device, target, recipe): `ok`, `refused` (by rule) or `failed` (tried), with a coded reason."""

    device: str
    target: str
    recipe: str
    status: str
    bundle: str | None = None
    size_bytes: int | None = None
    parity: Parity | None = None
    code: str | None = None
    reason: str | None = None
    hint: str | None = None
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain dict, the row of `ferrule build --json`."""
        return asdict(self)
