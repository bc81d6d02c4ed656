"""A function made ready to run: constants decoded once, parameters bound; and the running of one step."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from ferrule.converters.coreml.constants import NUMPY, Array, Inline, Stored, TensorType
from ferrule.converters.coreml.mil import MilFunction, MilOp, MilProgram, MilValue, Operand
from ferrule.converters.coreml.ops import OPS, WIDE_CONSTANTS, Call
from ferrule.converters.coreml.rows import is_data, misdeclared
from ferrule.errors import LoweringError

__all__ = ["Plan", "Step", "compute", "make_plan"]

# ops that take any number of values: one value is a tuple too
_TUPLES = frozenset({"values", "ref_tensors", "begins", "ends", "end_masks"})
_NEGATIVE_INDICES = frozenset({"CoreML5", "CoreML6"})
_NOT_NUMBERS = frozenset({"string", "list", "tuple", "dictionary"})

Shared = WeakValueDictionary[Hashable, Array]
"""Decoded arrays by what they are made from: functions share them for as long as a plan holds them."""


@dataclass(frozen=True)
class _Name:
    """A value read at run time, as opposed to a constant known beforehand."""

    name: str


@dataclass(frozen=True)
class Step:
    """An op ready to run: constants in place, names to read, names that no later step needs."""

    op: MilOp
    fixed: dict[str, Any]
    reads: tuple[tuple[str, tuple[Any, ...], bool], ...]
    dead: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Steps of a function; `constants` are those it returns, `doubtful` values of a wrong declared shape."""

    function: MilFunction
    steps: tuple[Step, ...]
    constants: dict[str, Any]
    doubtful: frozenset[str]


@dataclass(frozen=True)
class _Known:
    """What is known before a run: constants, what each is made from, names of states, arrays to share."""

    values: dict[str, Any]
    origins: dict[str, Hashable]
    states: frozenset[str]
    shared: Shared


def make_plan(program: MilProgram, function: MilFunction) -> Plan:
    """The plan of a function, made at its first run and kept with the program."""
    key = ("plan", function.name)
    if key not in program.memo:
        program.memo[key] = _make_plan(function, program.memo.setdefault("shared", WeakValueDictionary()))
    plan: Plan = program.memo[key]
    return plan


def _make_plan(function: MilFunction, shared: Shared) -> Plan:
    known = _Known({}, {}, frozenset(s.name for s in function.states), shared)
    doubtful = _doubtful(function)
    draft = Plan(function, (), {}, doubtful)
    for op in function.ops:
        if is_data(op):
            _decode(op, known, draft)
    pending = [op for op in function.ops if not is_data(op)]
    kept = {o.name for o in function.outputs}
    last = _last_uses(pending, kept | set(known.values))
    steps = tuple(_step(op, known, dead) for op, dead in zip(pending, last, strict=True))
    return Plan(function, steps, {k: v for k, v in known.values.items() if k in kept}, doubtful)


def _decode(op: MilOp, known: _Known, draft: Plan) -> None:
    """Evaluate a constant or constexpr op, unless another function holds its arrays already."""
    made_of = (op.kind, tuple((param, tuple(_origin(o, known) for o in ops)) for param, ops in op.params.items()))
    keys = {o.name: (made_of, i) for i, o in enumerate(op.outputs)}
    known.origins.update(keys)
    found = {name: known.shared[key] for name, key in keys.items() if key in known.shared}
    if len(found) == len(keys):
        known.values.update(found)
        return
    compute(_step(op, known, ()), known.values, {}, draft)
    for name, key in keys.items():
        if isinstance(known.values[name], np.ndarray):
            known.shared[key] = known.values[name]


def _origin(operand: Operand, known: _Known) -> Hashable:
    if isinstance(operand, str):
        return known.origins[operand]
    return operand if isinstance(operand, Stored) else id(operand)


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


def _doubtful(function: MilFunction) -> frozenset[str]:
    """Values whose declared shape is wrong, and those that follow from them."""
    wrong = {name for name, _ in misdeclared(function)}
    tainted: set[str] = set()
    for op in function.ops:
        reads = {o for operands in op.params.values() for o in operands if isinstance(o, str)}
        if op.name in wrong or reads & tainted:
            tainted |= {o.name for o in op.outputs}
    return frozenset(tainted)


def _step(op: MilOp, known: _Known, dead: tuple[str, ...]) -> Step:
    """Bind an op's parameters: constants by value, states by name, the rest to be read."""
    fixed: dict[str, Any] = {}
    reads: list[tuple[str, tuple[Any, ...], bool]] = []
    for param, operands in op.params.items():
        bound = tuple(_bind(o, known) for o in operands)
        if op.kind in WIDE_CONSTANTS:
            bound = tuple(_wide(b, o, known) for b, o in zip(bound, operands, strict=True))
        many = param in _TUPLES or len(bound) != 1
        if any(isinstance(b, _Name) for b in bound):
            reads.append((param, bound, many))
        else:
            fixed[param] = bound if many else bound[0]
    return Step(op, fixed, tuple(reads), dead)


def _bind(operand: Operand, known: _Known) -> Any:
    if isinstance(operand, Inline | Stored):
        return operand.decode()
    if operand in known.states:
        return operand
    return known.values[operand] if operand in known.values else _Name(operand)


def _wide(bound: Any, operand: Operand, known: _Known) -> Any:
    """An fp32 copy of a half-precision constant, one for each constant."""
    if not isinstance(bound, np.ndarray) or bound.dtype != np.float16:
        return bound
    key = ("fp32", _origin(operand, known))
    if key not in known.shared:
        wide = bound.astype(np.float32)
        known.shared[key] = wide
        return wide
    return known.shared[key]


def compute(step: Step, values: dict[str, Any], states: dict[str, Array], plan: Plan) -> None:
    """Run one step on the values so far, and forget what is not needed any more."""
    op = step.op
    given = dict(step.fixed)
    for param, bound, many in step.reads:
        read = tuple(values[b.name] if isinstance(b, _Name) else b for b in bound)
        given[param] = read if many else read[0]
    call = Call(tuple(o.type for o in op.outputs), states, plan.function.opset in _NEGATIVE_INDICES)
    try:
        made = OPS[op.kind](call, **given)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise _failed(op, plan.function, str(error), given) from error
    results = made if isinstance(made, tuple) and op.kind != "const" else (made,)
    if len(results) != len(op.outputs):
        raise _failed(op, plan.function, f"it made {len(results)} values, not {len(op.outputs)}", given)
    for value, result in zip(op.outputs, results, strict=True):
        values[value.name] = _finish(op, plan, value, result, given)
    for name in step.dead:
        values.pop(name, None)


def _finish(op: MilOp, plan: Plan, value: MilValue, result: Any, given: Mapping[str, Any]) -> Any:
    """Round to the declared type, and hold the result against the declared shape."""
    if value.type.dtype in _NOT_NUMBERS:
        return result
    wanted = NUMPY[value.type.dtype]
    array = np.asarray(result)
    if array.dtype != wanted:
        array = array.astype(wanted)
    if not _fits(array, value.type) and value.name not in plan.doubtful:
        why = f"it made the shape {list(array.shape)}, but declares {value.type}"
        raise _failed(op, plan.function, why, given)
    return array


def _fits(array: Array, kind: TensorType) -> bool:
    shape = kind.shape
    return array.ndim == len(shape) and all(n in (None, g) for n, g in zip(shape, array.shape, strict=True))


def _failed(op: MilOp, function: MilFunction, why: str, given: Mapping[str, Any]) -> LoweringError:
    arrays = {k: v for k, v in given.items() if isinstance(v, np.ndarray) and v.ndim}
    seen = ", ".join(f"{k}: {v.dtype}{list(v.shape)}" for k, v in arrays.items())
    return LoweringError(
        "FER-MIL-004",
        f"Op '{op.name}' ({op.kind}) in function '{function.name}' cannot be computed: {why}"
        + (f" [{seen}]." if seen else "."),
        "The program, or its inputs, are not what Core ML defines.",
    )
