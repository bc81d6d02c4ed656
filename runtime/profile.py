"""Where the time of a run goes, op by op."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ferrule.errors import TargetError

__all__ = ["OpTime", "Profile", "middle_run", "refuse_profile"]


@dataclass(frozen=True)
class OpTime:
    """One op of a run, in the order in which they run.

    op: its kind in the artefact. source: the user's `folder/file.py:line`, the name of the node, or empty.
    """

    op: str
    source: str
    seconds: float


@dataclass(frozen=True)
class Profile:
    """Times of the ops of one run. seconds: of the whole call, from inputs to outputs."""

    engine: str
    seconds: float
    ops: tuple[OpTime, ...]

    @property
    def share(self) -> float:
        """Part of the call's time that lies in its ops; the rest is inputs, outputs and the engine's own."""
        return sum(op.seconds for op in self.ops) / self.seconds

    def by_kind(self) -> list[tuple[str, int, float]]:
        """(op, how many, seconds), the longest first."""
        kinds: dict[str, list[float]] = {}
        for op in self.ops:
            kinds.setdefault(op.op, []).append(op.seconds)
        rows = [(kind, len(seconds), sum(seconds)) for kind, seconds in kinds.items()]
        return sorted(rows, key=lambda row: (-row[2], row[0]))

    def to_json(self) -> dict[str, Any]:
        """Plain dict, what `ferrule measure --profile --json` prints."""
        return {**asdict(self), "share": self.share}


def middle_run(profiles: Sequence[Profile]) -> Profile:
    """The run whose whole time is the median: a run that happened, whose parts belong together."""
    return sorted(profiles, key=lambda profile: profile.seconds)[len(profiles) // 2]


def refuse_profile(engine: str, why: str) -> TargetError:
    """What an engine raises that cannot tell."""
    return TargetError(
        "FER-TGT-005", f"The engine {engine} tells no times of single ops: {why}.", "Profile target native or onnx."
    )
