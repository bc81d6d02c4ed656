"""Engines: one file each, with one function `open_engine(path, entry_points, threads)`."""

__all__: list[str] = []
