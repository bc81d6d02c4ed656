"""The command line: one file a command, the same names as the Python API."""

from ferrule.cli.main import main

__all__ = ["main"]
