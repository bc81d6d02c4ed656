"""The runtime: sessions on bundles, engines, and the compiled kernels `_C`."""

__all__: list[str] = []
