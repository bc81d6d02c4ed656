"""Result: what came of one target of a build."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ferrule.program import Parity

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """Outcome of one (device, target, recipe): `ok`, `refused` (by rule) or `failed` (tried), with a coded reason.

    size_bytes: the artefact, without tokenizer and proof. seconds: wall time of lowering and proof. log: what the
    toolkit printed, kept only after a failure.
    """

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
    log: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The row of `ferrule build --json`."""
        return asdict(self)
