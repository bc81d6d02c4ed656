"""An ML Program told op by op: rows for a delegation table, and declarations that are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ferrule.converters.coreml.constants import Constant, Inline, Stored, TensorType
from ferrule.converters.coreml.mil import MilFunction, MilOp, Operand

__all__ = ["OpRow", "is_data", "make_rows", "misdeclared"]


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


def is_data(op: MilOp) -> bool:
    """Whether an op only holds a constant, compressed or not."""
    return op.kind == "const" or op.kind.startswith("constexpr_")


def make_rows(function: MilFunction) -> list[OpRow]:
    """One row for each op that computes, in order."""
    makers = {value.name: op for op in function.ops if is_data(op) for value in op.outputs}
    return [_row(op, makers) for op in function.ops if not is_data(op)]


def _row(op: MilOp, makers: Mapping[str, MilOp]) -> OpRow:
    held = [w for operands in op.params.values() for o in operands for w in _weights(o, makers, "const")]
    outputs = tuple(o.type for o in op.outputs)
    if not held:
        return OpRow(op.name, op.kind, outputs, "", "", 0)
    coded = [w for w in held if w[0] != "const"] or held
    # the codes are the constant of most elements: scales, palettes and biases have fewer
    kind, codes = max(coded, key=lambda w: w[1].type.elements)
    return OpRow(op.name, op.kind, outputs, kind, codes.type.dtype, sum(c.nbytes for _, c in held))


def _weights(operand: Operand, makers: Mapping[str, MilOp], kind: str) -> list[tuple[str, Constant]]:
    """The constants of rank one or more behind an operand, with the kind of op that decodes them."""
    if isinstance(operand, Stored):
        return [(kind, operand)]
    if isinstance(operand, Inline):
        return [(kind, operand)] if operand.type.shape and (kind != "const" or len(operand.type.shape) > 1) else []
    maker = makers.get(operand)
    if maker is None:
        return []
    inner = kind if maker.kind == "const" else maker.kind
    return [w for operands in maker.params.values() for o in operands for w in _weights(o, makers, inner)]


def misdeclared(function: MilFunction) -> list[tuple[str, str]]:
    """Ops whose declared output contradicts MIL's definition: (name, what is wrong).

    coremltools 9 leaves `cond` out when it infers the shape of `select`: with two scalars to choose from, the
    output is declared a scalar. By MIL's definition all three broadcast, and so the interpreter computes it,
    but devices have been reported to give wrong values (apple/coremltools issue 2544).
    """
    types = {v.name: v.type for op in function.ops for v in op.outputs}
    types |= {item.name: item.type for item in function.inputs}
    found = []
    for op in function.ops:
        cond = op.params.get("cond", ("",))[0] if op.kind == "select" else ""
        kind = cond.type if isinstance(cond, Inline | Stored) else types.get(cond)
        if kind is not None and not _holds(op.outputs[0].type, kind):
            found.append((op.name, f"select by cond of {kind} declares {op.outputs[0].type}"))
    return found


def _holds(declared: TensorType, part: TensorType) -> bool:
    """Whether a broadcast result of the declared shape can have come from that part."""
    if len(declared.shape) < len(part.shape):
        return False
    tail = declared.shape[len(declared.shape) - len(part.shape) :]
    return all(p in (None, 1, d) or d is None for d, p in zip(tail, part.shape, strict=True))
