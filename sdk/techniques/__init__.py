"""Techniques: one file each, a frozen `Options` and one function `(Model, Options, data) -> Model`."""

__all__: list[str] = []
