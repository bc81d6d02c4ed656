"""The zoo: many architectures, small and with random weights, each converted to four targets and proven there."""

from __future__ import annotations

__all__: list[str] = []
