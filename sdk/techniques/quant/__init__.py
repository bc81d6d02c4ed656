"""Quantizers: each ends in a codec that every converter knows how to write."""

__all__: list[str] = []
