"""Read an ExecuTorch program (.pte) back: what it stores, and where each instruction runs.

    flatbuffer program │ segments: constants, delegate blobs, named data (weights that delegates share)

Only the flatbuffer is decoded; segments stay in the file until `read_bytes` asks for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferrule.errors import BundleError

__all__ = ["Constant", "Delegate", "Method", "Pte", "Segment", "read_bytes", "read_pte"]

_HEAD_BYTES = 64  # the extended header lies in the first 64 bytes


@dataclass(frozen=True)
class Segment:
    """A range of the file, in bytes from its start."""

    offset: int
    size: int


@dataclass(frozen=True)
class Constant:
    """A constant tensor that portable kernels read; dtype as torch spells it (`float32`, `int8`)."""

    dtype: str
    shape: tuple[int, ...]
    segment: Segment

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        count = 1
        for length in self.shape:
            count *= length
        return count


@dataclass(frozen=True)
class Delegate:
    """A blob that a backend runs, `XnnpackBackend` or `CoreMLBackend`; its weights may be named data."""

    backend: str
    segment: Segment


@dataclass(frozen=True)
class Method:
    """One method: what it runs in order, as (`kernel`, `aten::add.out`) or (`delegate`, backend name).

    constants: indices into `Pte.constants`. arena_bytes: planned memory for intermediate values.
    """

    name: str
    instructions: tuple[tuple[str, str], ...]
    delegates: tuple[Delegate, ...]
    constants: tuple[int, ...]
    arena_bytes: int


@dataclass(frozen=True)
class Pte:
    """What a .pte file holds. `named`: key -> segment; XNNPACK keys are the sha256 of the data, hexadecimal."""

    path: Path
    methods: tuple[Method, ...]
    constants: Mapping[int, Constant]
    named: Mapping[str, Segment]


def read_pte(path: Path) -> Pte:
    """Decode the program of a .pte file; raises BundleError FER-BUN-020 if it is not one."""
    from executorch.exir._serialize._flatbuffer_program import _flatbuffer_to_program
    from executorch.exir._serialize._program import _get_extended_header

    with path.open("rb") as file:
        header = _get_extended_header(file.read(_HEAD_BYTES))
        size = path.stat().st_size if header is None else header.program_size
        file.seek(0)
        data = file.read(size)
    if data[4:6] != b"ET" or len(data) < size:
        raise BundleError(
            "FER-BUN-020",
            f"{path.name} is not a whole ExecuTorch program ({len(data)} bytes, magic {data[4:8]!r}).",
            "Build it again.",
        )
    program = _flatbuffer_to_program(data)
    base = 0 if header is None else header.segment_base_offset
    segments = [Segment(base + s.offset, s.size) for s in program.segments]
    plans = program.execution_plan
    return Pte(
        path,
        tuple(_read_method(plan, segments) for plan in plans),
        _read_constants(program, segments),
        {entry.key: segments[entry.segment_index] for entry in program.named_data or []},
    )


def read_bytes(pte: Pte, segment: Segment) -> bytes:
    """The bytes of a segment, a constant or a delegate blob."""
    with pte.path.open("rb") as file:
        file.seek(segment.offset)
        return file.read(segment.size)


def _read_method(plan: Any, segments: list[Segment]) -> Method:
    instructions = []
    for chain in plan.chains:
        for instruction in chain.instructions:
            call = instruction.instr_args
            if hasattr(call, "op_index"):
                operator = plan.operators[call.op_index]
                overload = f".{operator.overload}" if operator.overload else ""
                instructions.append(("kernel", operator.name + overload))
            elif hasattr(call, "delegate_index"):
                instructions.append(("delegate", plan.delegates[call.delegate_index].id))
    delegates = tuple(Delegate(d.id, _locate(d.processed, segments)) for d in plan.delegates)
    tensors = (value.val for value in plan.values)
    used = {t.data_buffer_idx for t in tensors if getattr(t, "data_buffer_idx", 0)}
    arena = sum(plan.non_const_buffer_sizes[1:])
    return Method(plan.name, tuple(instructions), delegates, tuple(sorted(used)), arena)


def _locate(processed: Any, segments: list[Segment]) -> Segment:
    """Where a delegate's blob lies; one that is inlined in the flatbuffer has no range of its own."""
    if processed.location.name == "SEGMENT":
        segment: Segment = segments[processed.index]
        return segment
    return Segment(0, 0)


def _read_constants(program: Any, segments: list[Segment]) -> dict[int, Constant]:
    """Constants by buffer index; their ranges come from the offsets and the shapes, without padding."""
    where = program.constant_segment
    if where is None or not where.offsets:
        return {}
    start = segments[where.segment_index].offset
    constants: dict[int, Constant] = {}
    for plan in program.execution_plan:
        for value in plan.values:
            tensor = value.val
            index = getattr(tensor, "data_buffer_idx", 0)
            if not index or tensor.allocation_info is not None:
                continue
            constants[index] = _read_constant(tensor, start + where.offsets[index])
    return constants


def _read_constant(tensor: Any, offset: int) -> Constant:
    import torch

    name = _DTYPES.get(tensor.scalar_type.name, tensor.scalar_type.name.lower())
    dtype = getattr(torch, name, None)
    width = dtype.itemsize if isinstance(dtype, torch.dtype) else 1
    count = 1
    for length in tensor.sizes:
        count *= length
    return Constant(name, tuple(tensor.sizes), Segment(offset, count * width))


_DTYPES = {
    "BYTE": "uint8",
    "CHAR": "int8",
    "SHORT": "int16",
    "INT": "int32",
    "LONG": "int64",
    "HALF": "float16",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "BOOL": "bool",
    "BFLOAT16": "bfloat16",
}
