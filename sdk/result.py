"""Result: what came of one target of a build."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferrule.atomic import write_json
from ferrule.disk import locked, output_errors
from ferrule.program import Parity

__all__ = ["Result", "write_results"]


@dataclass(frozen=True)
class Result:
    """Outcome of one (device, target, recipe): `ok`, `refused` (by rule) or `failed` (tried), with a coded reason.

    size_bytes: the artefact, without tokenizer and proof. seconds: wall time of lowering and proof; where `cached`, of
    the earlier build whose artefact was used again. log: what the toolkit printed, kept only after a failure. model:
    as it was given.
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
    cached: bool = False
    model: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row of `ferrule build --json`."""
        return asdict(self)


def write_results(results: Sequence[Result], folder: Path) -> None:
    """Keep the rows in `build.json`, which `ferrule report` reads; rows of other builds in the folder stay.

    Builds that end at the same time wait for each other here. A row tells what stands in the folder, and so not
    whether it came from the cache. Raises OutputError FER-OUT-001, FER-OUT-003.
    """
    path = folder / "build.json"
    with output_errors(path), locked(folder):
        write_json(path, {"schema": 1, "results": _merge(path, results)})


def _merge(path: Path, results: Sequence[Result]) -> list[dict[str, object]]:
    kept: dict[tuple[str, str, str, str], dict[str, object]] = {}
    if path.is_file():
        try:
            old = json.loads(path.read_text())["results"]
            kept = {(r.get("model", ""), r["device"], r["target"], r["recipe"]): r for r in old}
        except (ValueError, KeyError, TypeError, AttributeError):  # not ours to repair: the new rows replace it
            kept = {}
    for result in results:
        row = result.to_json()
        del row["cached"]
        row["bundle"] = Path(result.bundle).name if result.bundle else None
        kept[result.model, result.device, result.target, result.recipe] = row
    return list(kept.values())
