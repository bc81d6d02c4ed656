"""The libraries that add our kernels to the vendors' runtimes; the build lays them beside `_C`, see docs/custom_ops.md.

`libferrule_onnxruntime.so` holds custom ops of the domain `ferrule`, `libferrule_executorch.so` kernels of the ops
`ferrule::….out`, which join the wheel's own runtime when the library is loaded.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from ferrule.errors import TargetError

__all__ = ["built", "executorch_ops", "library_path", "onnx_ops"]


def built(vendor: str) -> bool:
    """Whether the library for `executorch` or `onnxruntime` was built."""
    return _path(vendor).exists()


def library_path(vendor: str) -> Path:
    """Its path. Raises TargetError FER-TGT-006 where it was not built."""
    path = _path(vendor)
    if path.exists():
        return path
    raise TargetError(
        "FER-TGT-006",
        f"{path.name}, which holds Ferrule's kernels as ops of {vendor}, was not built.",
        f"Install {vendor} and a C++17 compiler, then run `python setup.py build_ext --inplace` in Ferrule's sources.",
    )


@cache
def executorch_ops() -> ctypes.CDLL:
    """The library, loaded once a process, its kernels known to ExecuTorch's runtime from then on.

    Raises TargetError FER-TGT-006 where it was not built, or where the runtime refuses it.
    """
    from executorch.extension.pybindings import portable_lib  # noqa: F401  its library must be there first

    path = library_path("executorch")
    try:
        library = ctypes.CDLL(str(path))
        status = library.ferrule_executorch_status()
    except OSError as error:
        raise _refused(path, str(error)) from error
    if status:
        raise _refused(path, f"ExecuTorch's error {status}")
    library.ferrule_executorch_refusal.restype = ctypes.c_char_p
    library.ferrule_executorch_threads.argtypes = [ctypes.c_size_t]
    return library


@cache
def onnx_ops() -> ctypes.CDLL:
    """The library that sessions register by its path; loaded here to set its threads. Raises as `executorch_ops`."""
    path = library_path("onnxruntime")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise _refused(path, str(error)) from error
    library.ferrule_onnxruntime_threads.argtypes = [ctypes.c_size_t]
    return library


def _path(vendor: str) -> Path:
    return Path(__file__).with_name(f"libferrule_{vendor}.so")


def _refused(path: Path, reason: str) -> TargetError:
    return TargetError(
        "FER-TGT-006", f"{path.name} does not fit the runtime that is installed: {reason}.", "Build it again."
    )
