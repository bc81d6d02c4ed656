"""A program whose every figure is of its declared type and of a possible size, whatever its manifest held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ferrule.program import Dim, OpRow, Parity, Program, Signature, StoredWeights, TensorSpec

__all__ = ["settle", "to_count"]

MOST = 2**63


def settle(program: Program) -> Program:
    """The same program with all values converted, so that nothing that writes them can fail later.

    Raises ValueError, TypeError or OverflowError for what cannot be converted.
    """
    return replace(
        program,
        entry_points={str(name): _settle_signature(found) for name, found in program.entry_points.items()},
        parity=_settle_parity(program.parity) if program.parity else None,
        weights=tuple(StoredWeights(str(w.kind), to_count(w.elements), to_count(w.bytes)) for w in program.weights),
        delegation=tuple(
            OpRow(str(o.op), str(o.unit), str(o.reason), to_count(o.count), str(o.source), str(o.basis))
            for o in program.delegation
        ),
        notes=tuple(str(note) for note in program.notes),
        tools={str(name): str(version) for name, version in program.tools.items()},
    )


def to_count(value: Any) -> int:
    """A count or a number of bytes: 0 or more, and less than 2^63."""
    number = int(value)
    if not 0 <= number < MOST:
        raise ValueError(f"{str(value)[:40]} is no count")
    return number


def _settle_parity(found: Parity) -> Parity:
    return Parity(
        cosine=float(found.cosine),
        cosine_mean=float(found.cosine_mean),
        max_abs=float(found.max_abs),
        fidelity=float(found.fidelity),
        inputs=to_count(found.inputs),
        source=str(found.source),
        engine=str(found.engine),
        steps=None if found.steps is None else to_count(found.steps),
        control=None if found.control is None else float(found.control),
    )


def _settle_signature(found: Signature) -> Signature:
    return Signature(
        inputs=_settle_tensors(found.inputs),
        outputs=_settle_tensors(found.outputs),
        dims={str(n): Dim(str(d.name), to_count(d.min), to_count(d.max)) for n, d in found.dims.items()},
        padding={str(name): float(value) for name, value in found.padding.items()},
        buckets=tuple(to_count(length) for length in found.buckets),
    )


def _settle_tensors(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(str(s.name), str(s.dtype), tuple(a if isinstance(a, str) else to_count(a) for a in s.shape))
        for s in specs
    )
