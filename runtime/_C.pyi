"""Types of the native kernels (csrc/bindings/).

A tensor is a numpy array, a torch tensor on the CPU, or anything else with Python's buffer protocol or DLPack in main
memory. Nothing is copied. The elements of the last axis must stand side by side; other axes may have any stride that
is not negative, so that slices of rows and columns are taken as they are. `float32 (..., width)` means any number of
leading axes, which the op takes as rows.

`out` takes the result (shape and dtype exactly as told, memory apart from the inputs unless told otherwise) and is then
what the function returns; without it a new numpy array is. NaN and infinities in tensors follow IEEE arithmetic; in
scalar arguments they are refused.

`pool` divides the work over threads, None leaves it to the calling one; `isa` is the highest instruction set to use,
None the active one. Kernels run without the GIL. Every function raises KernelTypeError and KernelValueError, whose text
begins with a code of docs/errors.md.
"""

from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias

from typing_extensions import Buffer

class _DLPack(Protocol):
    def __dlpack__(self, *, stream: None = ...) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...

_Tensor: TypeAlias = Buffer | _DLPack
_Result: TypeAlias = Any  # `out` where it was given, else a numpy array of the dtype that the function tells

class KernelTypeError(TypeError):
    """FER-KER-001: an argument of the wrong type or dtype."""

class KernelValueError(ValueError):
    """FER-KER-002 shape, -003 memory layout, -004 value, -005 isa, -006 FERRULE_ISA, -007 size, -008 packed weights."""

class Pool:
    """Threads that run kernels. May be shared by callers: one that finds it at work computes alone. Use it as a context
    manager, or `close` it; the last reference ends its threads as well. A forked child must make its own."""

    def __init__(self, threads: int) -> None:
        """threads: 1 to 1024, the calling one counted in."""

    @property
    def threads(self) -> int:
        """How many threads there are, the calling one counted in."""

    def close(self) -> None:
        """End the threads; a call that is at work ends first. Calls with a closed pool are refused (FER-KER-004)."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

def isas() -> list[str]:
    """Instruction sets that are compiled in and that this CPU runs, weakest first."""

def kernels() -> list[tuple[str, str]]:
    """Rows (op, isa) of the kernel table, those that this CPU cannot run included."""

def active_isa() -> str:
    """Instruction set in use: `FERRULE_ISA` where it is set, else the strongest that this CPU runs.

    The variable is read once, at the first call. Raises KernelValueError (FER-KER-006) if it names an
    instruction set that is unknown or cannot be used here.
    """

def layer_norm(
    input: _Tensor,
    weight: _Tensor | None = None,
    bias: _Tensor | None = None,
    *,
    residual: _Tensor | None = None,
    epsilon: float = 1e-5,
    out: _Tensor | None = None,
    sum: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """(x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias along the last axis of x = input + residual.

    input, residual, out, sum: float32 (..., width); weight, bias: float32 (width,). The variance is the biased one.
    `sum` takes x itself and may be `residual`; `out` may be `input`. epsilon: 0 or more.
    """

def peak(
    kind: Literal["fma", "dot_i8", "read"],
    units: int = 1,
    *,
    memory: _Tensor | None = None,
    isa: str | None = None,
) -> float:
    """Do as much as a core can, on the calling thread, and return how much that was; the caller takes the time.

    "fma": float32 multiply-adds from registers, "dot_i8": int8 products; both count 2 operations each, a unit is 4096
    rounds of the instructions. "read": bytes loaded from `memory`, uint8 (bytes,), a multiple of 1024 at an address
    that is a multiple of 64; a unit is one pass over it. Returns 0 where the instruction set lacks the kind.
    """
