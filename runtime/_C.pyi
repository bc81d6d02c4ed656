"""Types of the native kernels (csrc/bindings/module.cpp)."""

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
