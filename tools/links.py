"""Lay `.links/ferrule/…`: the import package as a tree of links, for tools that cannot follow `package_dir`.

mypy, pyright and structure viewers look for `ferrule/` on a path; the repository keeps four folders instead
(see `setup.py`). Rerun it after adding a file at the top of `sdk/`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / ".links" / "ferrule"


def lay_links() -> None:
    """Rebuild the tree of links from nothing."""
    shutil.rmtree(PACKAGE, ignore_errors=True)
    PACKAGE.mkdir(parents=True)
    for entry in sorted((ROOT / "sdk").iterdir()):
        if entry.name != "__pycache__":
            (PACKAGE / entry.name).symlink_to(entry)
    for folder in ("converters", "runtime", "device_profiles"):
        (PACKAGE / folder).symlink_to(ROOT / folder)


if __name__ == "__main__":
    lay_links()
