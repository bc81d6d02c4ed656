"""Run an ML Program in numpy: what Core ML would compute, checked on any machine.

Every op computes in fp32 (or its integers) and is rounded to the type that it declares, so that half
precision rounds where a device rounds, if not in the same order of sums. Infinities and NaN spread as IEEE
says.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np

from ferrule.converters.coreml.constants import NUMPY, Array, Inline, Stored, TensorType
from ferrule.converters.coreml.mil import MilFunction, MilInput, MilOp, MilProgram, MilValue, Operand, load
from ferrule.converters.coreml.ops import OPS, WIDE_CONSTANTS, Call, OpFunction
from ferrule.errors import InputError, LoweringError

__all__ = ["OpRow", "list_ops", "load", "run"]

_TUPLES = frozenset({"values", "ref_tensors", "begins", "ends", "end_masks"})
_WEIGHTS_BEFORE_IOS17 = frozenset({"CoreML5", "CoreML6"})


@dataclass(frozen=True)
class OpRow:
    """One computing op for a delegation table.

    `outputs` are the types declared; `weights` the kind of op that makes its stored weights ("" none,
    "const", "constexpr_…"), `weight_dtype` the type of its codes, `weight_bytes` what all of them take in the
    file, scales and tables included.
    """

    name: str
    kind: str
    outputs: tuple[TensorType, ...]
    weights: str
    weight_dtype: str
    weight_bytes: int

    @property
    def is_compressed(self) -> bool:
        """Whether its weights are held as codes."""
        return self.weights.startswith("constexpr_")


@dataclass(frozen=True)
class _Name:
    """A value read at run time, as opposed to a constant known beforehand."""

    name: str


@dataclass(frozen=True)
class _Step:
    """An op ready to run: constants in place, the names to read, the names that no later step reads."""

    op: MilOp
    function: OpFunction
    fixed: dict[str, Any]
    reads: tuple[tuple[str, tuple[Any, ...], bool], ...]
    outputs: tuple[TensorType, ...]
    dead: tuple[str, ...]


def run(
    program: MilProgram,
    inputs: Mapping[str, Array],
    function: str = "main",
    state: dict[str, Array] | None = None,
) -> dict[str, Array]:
    """Compute a function's outputs, by name.

    `inputs` must have the program's names, dtypes and shapes exactly. `state` holds the function's states by
    name and is updated in place, so that the next call goes on from it; states that are missing start as
    zeros; an error leaves it untouched. Raises LoweringError: FER-MIL-001 for an op that is not known
    (checked over the whole program before anything is computed), FER-MIL-002 for a damaged package,
    FER-MIL-003 for a function that is not there, FER-MIL-004 for an op that cannot be computed; and
    InputError: FER-INP-041 (names), FER-INP-042 (dtypes), FER-INP-043 (shapes).
    """
    found = _find(program, function)
    _check_kinds(program)
    values: dict[str, Any] = dict(_check_inputs(found, inputs))
    states = _check_states(found, state)
    with np.errstate(all="ignore"), _one_thread():
        for step in _plan(program, found):
            _compute(step, values, states, found)
    if state is not None:
        state.update(states)
    constants = program.memo["constants", function]
    return {
        o.name: np.array(values[o.name] if o.name in values else constants[o.name]) for o in found.outputs
    }


def list_ops(program: MilProgram, function: str = "main") -> list[OpRow]:
    """The ops that compute, in order, with the weights that each reads; constants have no row."""
    found = _find(program, function)
    makers = {value.name: op for op in found.ops if _is_data(op) for value in op.outputs}
    return [_row(op, makers) for op in found.ops if not _is_data(op)]


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


def _is_data(op: MilOp) -> bool:
    return op.kind == "const" or op.kind.startswith("constexpr_")


def _row(op: MilOp, makers: Mapping[str, MilOp]) -> OpRow:
    """Weights are the constants of rank one or more that the op reads, directly or through constexpr ops."""
    held: list[tuple[str, TensorType, int]] = []
    for operand in (o for operands in op.params.values() for o in operands):
        held += _weights_of(operand, makers, "const")
    if not held:
        return OpRow(op.name, op.kind, tuple(o.type for o in op.outputs), "", "", 0)
    kind, narrowest, _ = min(held, key=lambda h: (not h[0].startswith("constexpr_"), h[1].dtype, -h[2]))
    size = sum(h[2] for h in held)
    return OpRow(op.name, op.kind, tuple(o.type for o in op.outputs), kind, narrowest.dtype, size)


def _weights_of(
    operand: Operand, makers: Mapping[str, MilOp], kind: str
) -> list[tuple[str, TensorType, int]]:
    if isinstance(operand, Inline | Stored):
        stored = isinstance(operand, Stored) or (len(operand.type.shape) > 1 or kind != "const")
        return [(kind, operand.type, operand.nbytes)] if stored else []
    maker = makers.get(operand)
    if maker is None:
        return []
    inner = kind if maker.kind == "const" else maker.kind
    return [w for operands in maker.params.values() for o in operands for w in _weights_of(o, makers, inner)]


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
        raise InputError(
            "FER-INP-042", f"{what} is {found}; it must be a numpy array of {kind.dtype}.", "Convert it."
        )
    if not _fits(given, kind):
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


def _plan(program: MilProgram, function: MilFunction) -> tuple[_Step, ...]:
    """Steps of a function, made once: constants decoded, last uses known."""
    key = ("plan", function.name)
    if key in program.memo:
        steps: tuple[_Step, ...] = program.memo[key]
        return steps
    states = {s.name for s in function.states}
    constants: dict[str, Any] = {}
    decoded: dict[Stored, Any] = program.memo.setdefault("decoded", {})  # functions share their weights
    widened: dict[Any, Any] = {}
    for op in function.ops:
        if _is_data(op):
            step = _step(op, constants, states, widened, decoded, ())
            _compute(step, constants, {}, function)
    pending = [op for op in function.ops if not _is_data(op)]
    last = _last_uses(pending, {o.name for o in function.outputs} | set(constants))
    planned = tuple(_step(op, constants, states, widened, decoded, last[i]) for i, op in enumerate(pending))
    kept = {o.name for o in function.outputs}
    program.memo["constants", function.name] = {name: v for name, v in constants.items() if name in kept}
    program.memo[key] = planned
    return planned


def _last_uses(ops: list[MilOp], kept: set[str]) -> list[tuple[str, ...]]:
    """For each op, the values that neither a later op nor the caller needs, unread outputs included."""
    seen = set(kept)
    dead: list[tuple[str, ...]] = []
    for op in reversed(ops):
        touched = [o for operands in op.params.values() for o in operands if isinstance(o, str)]
        touched += [o.name for o in op.outputs]
        fresh = [name for name in dict.fromkeys(touched) if name not in seen]
        seen |= set(fresh)
        dead.append(tuple(fresh))
    return dead[::-1]


def _step(
    op: MilOp,
    constants: Mapping[str, Any],
    states: set[str],
    widened: dict[Any, Any],
    decoded: dict[Stored, Any],
    dead: tuple[str, ...],
) -> _Step:
    """Bind an op's parameters: constants by value, states by name, the rest to be read."""
    fixed: dict[str, Any] = {}
    reads: list[tuple[str, tuple[Any, ...], bool]] = []
    for param, operands in op.params.items():
        bound = tuple(_bind(o, constants, states, decoded) for o in operands)
        if op.kind in WIDE_CONSTANTS:
            bound = tuple(_wide(b, o, widened) for b, o in zip(bound, operands, strict=True))
        many = param in _TUPLES or len(bound) != 1
        if any(isinstance(b, _Name) for b in bound):
            reads.append((param, bound, many))
        else:
            fixed[param] = bound if many else bound[0]
    return _Step(op, OPS[op.kind], fixed, tuple(reads), tuple(o.type for o in op.outputs), dead)


def _bind(
    operand: Operand, constants: Mapping[str, Any], states: set[str], decoded: dict[Stored, Any]
) -> Any:
    if isinstance(operand, Stored):
        if operand not in decoded:
            decoded[operand] = operand.decode()
        return decoded[operand]
    if isinstance(operand, Inline):
        return operand.decode()
    if operand in states:
        return operand
    return constants[operand] if operand in constants else _Name(operand)


def _wide(bound: Any, operand: Operand, widened: dict[Any, Any]) -> Any:
    """An fp32 copy of a half-precision constant, one for each constant."""
    if not isinstance(bound, np.ndarray) or bound.dtype != np.float16:
        return bound
    key = operand if isinstance(operand, str | Stored) else id(operand)
    if key not in widened:
        widened[key] = bound.astype(np.float32)
    return widened[key]


def _compute(step: _Step, values: dict[str, Any], states: dict[str, Array], function: MilFunction) -> None:
    """Run one step on the values so far, and forget what is not needed any more."""
    given = {
        param: tuple(values[b.name] if isinstance(b, _Name) else b for b in bound)
        if many
        else values[bound[0].name]
        for param, bound, many in step.reads
    }
    call = Call(step.outputs, states, function.opset in _WEIGHTS_BEFORE_IOS17)
    try:
        made = step.function(call, **step.fixed, **given)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise _failed(step.op, function, f"{error}", {**step.fixed, **given}) from error
    results = made if isinstance(made, tuple) and step.op.kind != "const" else (made,)
    if len(results) != len(step.outputs):
        raise _failed(step.op, function, f"it made {len(results)} values, not {len(step.outputs)}", given)
    for value, result in zip(step.op.outputs, results, strict=True):
        values[value.name] = _finish(step, function, value, result, given)
    for name in step.dead:
        values.pop(name, None)


def _finish(
    step: _Step, function: MilFunction, value: MilValue, result: Any, given: Mapping[str, Any]
) -> Any:
    """Round to the declared type, and hold the result against the declared shape."""
    wanted = NUMPY.get(value.type.dtype)
    if wanted is None:
        return result  # strings and lists
    array = np.asarray(result)
    if array.dtype != wanted:
        array = array.astype(wanted)
    if not _fits(array, value.type) and not _misdeclared(step, function):
        raise _failed(
            step.op, function, f"it made the shape {list(array.shape)}, but declares {value.type}", given
        )
    return array


def _fits(array: Array, kind: TensorType) -> bool:
    return array.ndim == len(kind.shape) and all(
        n in (None, g) for n, g in zip(kind.shape, array.shape, strict=True)
    )


def _misdeclared(step: _Step, function: MilFunction) -> bool:
    """Whether the declared shape may be wrong: coremltools 9 leaves `cond` out of the shape of `select`,

    and ops that read such a value declare what follows from it.
    """
    doubtful = {"select"}
    tainted: set[str] = set()
    for op in function.ops:
        read = {o for operands in op.params.values() for o in operands if isinstance(o, str)}
        if op.kind in doubtful or read & tainted:
            tainted |= {o.name for o in op.outputs}
        if op is step.op:
            break
    return any(o.name in tainted for o in step.op.outputs)


def _failed(op: MilOp, function: MilFunction, why: str, given: Mapping[str, Any]) -> LoweringError:
    seen = ", ".join(
        f"{k}: {v.dtype}{list(v.shape)}" for k, v in given.items() if isinstance(v, np.ndarray) and v.ndim
    )
    return LoweringError(
        "FER-MIL-004",
        f"Op '{op.name}' ({op.kind}) in function '{function.name}' cannot be computed: {why}"
        + (f" [{seen}]." if seen else "."),
        "The program, or its inputs, are not what Core ML defines.",
    )
