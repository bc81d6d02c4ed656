"""Print the options of CMake that build the native library with what one bundle needs and nothing else.

    python tools/native_parts.py out/minilm.ferrule   # a bundle of target native, or a program's file

-DFERRULE_OPS names ops of programs, -DFERRULE_KERNELS kernels. A program that uses others is refused by that library:
FER-NAT-013. Give several bundles for an app that opens several.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ferrule.bundle import Bundle
from ferrule.runtime import _C


def find_program(path: Path) -> Path:
    """The program's file of a bundle; a file stands for itself."""
    if path.is_file():
        return path
    bundle = Bundle.open(path)
    bundle.verify()
    return bundle.root / bundle.main


def cmake_options(programs: list[Path]) -> list[str]:
    """`-DFERRULE_OPS=…` and `-DFERRULE_KERNELS=…`."""
    parts = [_C.Program(str(path)).parts for path in programs]
    return [
        f"-DFERRULE_{kind.upper()}={';'.join(sorted({name for each in parts for name in each[kind]}))}"
        for kind in ("ops", "kernels")
    ]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python tools/native_parts.py BUNDLE...")
    print(" ".join(f"'{option}'" for option in cmake_options([find_program(Path(arg)) for arg in sys.argv[1:]])))
