"""Result: what came of one target of a build."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferrule.atomic import write_json
from ferrule.program import Parity

__all__ = ["Result", "write_results"]


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


def write_results(results: Sequence[Result], folder: Path) -> None:
    """Keep the rows in `build.json`, which `ferrule report` reads; rows of other builds in the folder stay."""
    path = folder / "build.json"
    kept: dict[tuple[str, str, str], dict[str, object]] = {}
    if path.is_file():
        try:
            old = json.loads(path.read_text())["results"]
            kept = {(r["device"], r["target"], r["recipe"]): r for r in old}
        except (ValueError, KeyError, TypeError):  # not ours to repair: the new rows replace it
            kept = {}
    for result in results:
        row = result.to_json()
        row["bundle"] = Path(result.bundle).name if result.bundle else None
        kept[result.device, result.target, result.recipe] = row
    write_json(path, {"schema": 1, "results": list(kept.values())})
