"""Policies: how the runtime drives a model's entry points, as data that goes into the manifest as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Forward", "Policy"]


@dataclass(frozen=True)
class Forward:
    """Call one entry point once for each input."""

    entry_point: str = "forward"

    def to_json(self) -> dict[str, Any]:
        """`{"kind": "forward", "entry_point": …}`."""
        return {"kind": "forward", "entry_point": self.entry_point}


Policy = Forward
