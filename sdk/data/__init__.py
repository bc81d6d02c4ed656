"""Data that ships with Ferrule, and readers of labelled data that other packages ship."""

__all__: list[str] = []
