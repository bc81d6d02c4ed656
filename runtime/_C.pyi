"""Types of the native kernels (csrc/bindings/module.cpp)."""

from typing import SupportsFloat, SupportsIndex

import numpy as np
import numpy.typing as npt

GEMV_I8_MAX_DEPTH: int
"""Greatest depth of `gemv_i8`: beyond it an int32 sum could overflow."""

class KernelTypeError(TypeError):
    """FER-KER-001: an argument of the wrong type or dtype."""

class KernelValueError(ValueError):
    """FER-KER-002 rank or length, -003 memory layout, -004 value out of range, -005 isa, -006 FERRULE_ISA."""

def isas() -> list[str]:
    """Instruction sets that are compiled in and that this CPU runs, weakest first."""

def kernels() -> list[tuple[str, str]]:
    """Rows (op, isa) of the kernel table, those that this CPU cannot run included."""

def active_isa() -> str:
    """Instruction set in use: `FERRULE_ISA` where it is set, else the strongest that this CPU runs.

    The variable is read once, at the first call. Raises KernelValueError (FER-KER-006) if it names an
    instruction set that is unknown or cannot be used here.
    """

def gemv_i8(
    weights: npt.NDArray[np.int8],
    weight_scales: npt.NDArray[np.float32],
    activations: npt.NDArray[np.int8],
    activation_scale: SupportsFloat | SupportsIndex,
    activation_zero: SupportsIndex,
    bias: npt.NDArray[np.float32] | None = None,
    *,
    isa: str | None = None,
) -> npt.NDArray[np.float32]:
    """One row of int8 activations times an int8 matrix: y = a_scale * w_scales * (W @ (a - zero)) + bias.

    Shapes: weights [N, K], weight_scales [N], activations [K], bias [N], result float32 [N]; all arrays
    C-contiguous. `activation_zero` lies in -128..127 and K is at most GEMV_I8_MAX_DEPTH. Sums are exact in
    int32 and the result has the same bits on every instruction set. `isa` is the highest one to use.
    Raises KernelTypeError and KernelValueError. The GIL is released while the kernel runs.
    """
