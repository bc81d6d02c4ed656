"""Constants of an ML Program: types, the weight file, and values packed below a byte.

A weight file is a 64-byte header and then, at each constant's offset, a 64-byte record (magic word, type,
size and place of the data, unused bits). Elements narrower than a byte are packed from the least significant
bit up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.errors import LoweringError

__all__ = [
    "BITS",
    "DTYPES",
    "NUMPY",
    "Array",
    "Constant",
    "Inline",
    "Stored",
    "TensorType",
    "inline_array",
    "unpack",
]

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES: dict[int, str] = {
    1: "bool", 2: "string", 10: "fp16", 11: "fp32", 12: "fp64",
    21: "int8", 22: "int16", 23: "int32", 24: "int64", 25: "int4",
    31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64",
    35: "uint4", 36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3",
}  # fmt: skip
"""Numbers of the specification's DataType to the names used in MIL text."""

BITS: dict[str, int] = {
    "bool": 8, "fp16": 16, "fp32": 32, "fp64": 64,
    "int4": 4, "int8": 8, "int16": 16, "int32": 32, "int64": 64,
    "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6, "uint8": 8,
    "uint16": 16, "uint32": 32, "uint64": 64,
}  # fmt: skip

NUMPY: dict[str, type[np.generic]] = {
    "bool": np.bool_, "fp16": np.float16, "fp32": np.float32, "fp64": np.float64,
    "int4": np.int8, "int8": np.int8, "int16": np.int16, "int32": np.int32, "int64": np.int64,
    "uint1": np.uint8, "uint2": np.uint8, "uint3": np.uint8, "uint4": np.uint8, "uint6": np.uint8,
    "uint8": np.uint8,
    "uint16": np.uint16, "uint32": np.uint32, "uint64": np.uint64,
}  # fmt: skip
"""The numpy type that holds a value; what is narrower than a byte is held in one."""

_MAGIC = 0xDEADBEEF
_RECORD = np.dtype([("magic", "<u4"), ("kind", "<u4"), ("size", "<u8"), ("offset", "<u8"), ("unused_bits", "<u8")])


@dataclass(frozen=True)
class TensorType:
    """Element type by its MIL name, and shape; None is a dimension known only at run time."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def elements(self) -> int:
        """Number of elements, open dimensions counted as one."""
        return prod(n if n is not None else 1 for n in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True)
class Inline:
    """A constant written in the program itself."""

    type: TensorType
    value: Any

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in the specification, rounded up from its bits."""
        return (self.type.elements * BITS.get(self.type.dtype, 0) + 7) // 8

    def decode(self) -> Any:
        """The value: an array, a string or a tuple."""
        return self.value


@dataclass(frozen=True)
class Stored:
    """A constant in a weight file, at the offset of its record."""

    type: TensorType
    file: Path
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of packed data in the file."""
        return (self.type.elements * BITS.get(self.type.dtype, 0) + 7) // 8

    def decode(self) -> Array:
        """The values, in the shape declared; whole-byte types stay mapped from the file.

        Raises LoweringError FER-MIL-002 where record and declared type disagree or the file is cut short.
        """
        try:
            raw = np.memmap(self.file, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise self._damaged(str(error)) from error
        head = raw[self.offset : self.offset + _RECORD.itemsize]
        if head.size < _RECORD.itemsize:
            raise self._damaged("the file ends before the constant's record")
        record = head.view(_RECORD)[0]
        if int(record["magic"]) != _MAGIC or int(record["size"]) != self.nbytes:
            raise self._damaged(f"the record holds {int(record['size'])} bytes where {self.type} needs {self.nbytes}")
        start = int(record["offset"])
        data = raw[start : start + self.nbytes]
        if data.size != self.nbytes:
            raise self._damaged("the file ends before the constant's data")
        return _shaped(self.type, data)

    def _damaged(self, why: str) -> LoweringError:
        return LoweringError(
            "FER-MIL-002",
            f"Weight file {self.file.name} at {self.offset} is damaged: {why}.",
            "Convert the model again.",
        )


Constant = Inline | Stored


def _shaped(kind: TensorType, data: Array) -> Array:
    shape = tuple(n if n is not None else 1 for n in kind.shape)
    bits = BITS[kind.dtype]
    if bits < 8:
        return unpack(data, bits, kind.elements, kind.dtype.startswith("int")).reshape(shape)
    return data.view(NUMPY[kind.dtype]).reshape(shape)


def inline_array(kind: TensorType, held: Any) -> Array:
    """Values of an immediate tensor: `held` is a repeated field, or bytes for the narrow types."""
    if isinstance(held, bytes):
        return _shaped(kind, np.frombuffer(held, dtype=np.uint8))
    shape = tuple(n if n is not None else 1 for n in kind.shape)
    return np.array(held, dtype=NUMPY[kind.dtype]).reshape(shape)


def unpack(data: Array, bits: int, count: int, signed: bool = False) -> Array:
    """Elements of `bits` bits, least significant first: uint8, or int8 (two's complement) if signed."""
    if bits == 8:
        codes = data[:count]
    elif 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = ((data[:, None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    else:
        flags = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits)
        codes = (flags << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if not signed:
        return np.ascontiguousarray(codes)
    half, full = 1 << (bits - 1), 1 << bits
    return np.where(codes >= half, codes.astype(np.int16) - full, codes).astype(np.int8)
