"""Run an ML Program in numpy: what Core ML would compute, checked on any machine.

Every op computes in fp32 (or its integers) and is rounded to the type that it declares, so that half
precision rounds where a device rounds, if not in the same order of sums. Infinities and NaN spread as IEEE
says.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np

from ferrule.converters.coreml.constants import NUMPY, Array, TensorType
from ferrule.converters.coreml.mil import MilFunction, MilInput, MilProgram, MilValue, load
from ferrule.converters.coreml.ops import OPS
from ferrule.converters.coreml.plan import compute, make_plan
from ferrule.converters.coreml.rows import OpRow, make_rows, misdeclared
from ferrule.errors import InputError, LoweringError

__all__ = ["OpRow", "list_misdeclared", "list_ops", "load", "run"]


def run(
    program: MilProgram,
    inputs: Mapping[str, Array],
    function: str = "main",
    state: dict[str, Array] | None = None,
    watch: dict[str, Array] | None = None,
) -> dict[str, Array]:
    """Compute a function's outputs, by name.

    `inputs` must have the program's names, dtypes and shapes exactly. `state` holds the function's states by
    name and is updated in place, so that the next call goes on from it; states that are missing start as
    zeros; an error leaves it untouched. `watch` receives every value that the run makes, in order.
    Raises LoweringError: FER-MIL-001 for an op that is not known (checked over the whole program before anything
    is computed), FER-MIL-002 for a damaged package, FER-MIL-003 for a function that is not there, FER-MIL-004 for
    an op that cannot be computed; and InputError: FER-INP-041 (names), FER-INP-042 (dtypes), FER-INP-043 (shapes).
    """
    found = _find(program, function)
    _check_kinds(program)
    values: dict[str, Any] = dict(_check_inputs(found, inputs))
    states = _check_states(found, state)
    with np.errstate(all="ignore"), _one_thread():
        plan = make_plan(program, found)
        for step in plan.steps:
            compute(step if watch is None else replace(step, dead=()), values, states, plan)
            if watch is not None:
                watch.update({o.name: values[o.name] for o in step.op.outputs})
    if state is not None:
        state.update({name: np.array(value) for name, value in states.items()})
    values = plan.constants | values
    return {o.name: np.array(values[o.name]) for o in found.outputs}


def list_ops(program: MilProgram, function: str = "main") -> list[OpRow]:
    """The ops that compute, in order, with the weights that each reads; constants have no row."""
    return make_rows(_find(program, function))


def list_misdeclared(program: MilProgram, function: str = "main") -> list[tuple[str, str]]:
    """Ops that declare what MIL's definition contradicts (name, what is wrong): a device may go wrong there."""
    return misdeclared(_find(program, function))


def _one_thread() -> AbstractContextManager[Any]:
    """BLAS on one thread: the same bits on any machine, and no waiting for a worker that is not scheduled

    (on a busy machine that makes small products ten times slower). Without threadpoolctl: as it is.
    """
    blas = _blas()
    return nullcontext() if blas is None else cast("AbstractContextManager[Any]", blas.limit(limits=1))


@cache
def _blas() -> Any:
    try:
        from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


def _find(program: MilProgram, function: str) -> MilFunction:
    if function not in program.functions:
        there = ", ".join(sorted(program.functions))
        raise LoweringError("FER-MIL-003", f"The program has no function '{function}'.", f"It has: {there}.")
    return program.functions[function]


def _check_kinds(program: MilProgram) -> None:
    """Name every op of a kind that is not known, in all functions, before anything is computed."""
    unknown: dict[str, str] = {}
    for function in program.functions.values():
        for op in function.ops:
            if op.kind not in OPS or op.has_blocks:
                unknown.setdefault(op.kind, f"'{op.name}' in function '{function.name}'")
    if unknown:
        found = "; ".join(f"{kind} (first at {where})" for kind, where in sorted(unknown.items()))
        raise LoweringError(
            "FER-MIL-001",
            f"The program has ops that the MIL interpreter does not know: {found}.",
            f"It knows: {', '.join(sorted(OPS))}.",
        )


def _check_inputs(function: MilFunction, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = {item.name for item in function.inputs}
    if set(inputs) != names:
        raise InputError(
            "FER-INP-041",
            f"Function '{function.name}' takes the inputs {sorted(names)}, but {sorted(inputs)} were given.",
            "Give each of them by its name.",
        )
    for item in function.inputs:
        given = inputs[item.name]
        _check_value(f"Input '{item.name}'", given, item.type)
        _check_bounds(item, given.shape)
    return {item.name: np.asarray(inputs[item.name]) for item in function.inputs}


def _check_value(what: str, given: Any, kind: TensorType) -> None:
    if not isinstance(given, np.ndarray) or given.dtype != NUMPY.get(kind.dtype):
        found = given.dtype if isinstance(given, np.ndarray) else type(given).__name__
        raise InputError("FER-INP-042", f"{what} is {found}; it must be a numpy array of {kind.dtype}.", "Convert it.")
    if given.ndim != len(kind.shape) or any(n not in (None, g) for n, g in zip(kind.shape, given.shape, strict=True)):
        raise InputError(
            "FER-INP-043",
            f"{what} has the shape {list(given.shape)}; the program takes {kind}.",
            "Reshape it.",
        )


def _check_bounds(item: MilInput, shape: tuple[int, ...]) -> None:
    if item.shapes and shape not in item.shapes:
        allowed = ", ".join(str(list(s)) for s in item.shapes)
        raise InputError(
            "FER-INP-043",
            f"Input '{item.name}' has the shape {list(shape)}; allowed are {allowed}.",
            "Pad to one of them.",
        )
    for axis, (least, most) in enumerate(item.ranges):
        if shape[axis] < least or (most >= 0 and shape[axis] > most):
            raise InputError(
                "FER-INP-043",
                f"Input '{item.name}' has {shape[axis]} elements along dimension {axis}; "
                f"allowed are {least} to {most if most >= 0 else 'any number'}.",
                "Shorten, split or pad it.",
            )


def _check_states(function: MilFunction, state: dict[str, Array] | None) -> dict[str, Array]:
    given = state or {}
    names = {s.name for s in function.states}
    if not set(given) <= names:
        raise InputError(
            "FER-INP-041",
            f"Function '{function.name}' has the states {sorted(names)}, but {sorted(given)} were given.",
            "Give states by their names, or none to start from zeros.",
        )
    for item in function.states:
        if item.name in given:
            _check_value(f"State '{item.name}'", given[item.name], item.type)
    return {s.name: given[s.name] if s.name in given else _zeros(s) for s in function.states}


def _zeros(item: MilValue) -> Array:
    return np.zeros(tuple(n if n is not None else 1 for n in item.type.shape), dtype=NUMPY[item.type.dtype])
