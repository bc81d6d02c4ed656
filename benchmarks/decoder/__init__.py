"""A small language model on the native runtime: its speed, size and quality beside other runtimes."""

from __future__ import annotations

__all__: list[str] = []
