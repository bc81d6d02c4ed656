"""Fewer tokens: layers of a model that see less of its input than it was given."""

__all__: list[str] = []
