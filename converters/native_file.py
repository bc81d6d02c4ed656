"""The file of a native program: safetensors, with the graph as an array of its own and a checksum of each array.

csrc/executor/file.h reads it. Codes of 2 and 4 bits are packed into bytes; the checksum then says so: `0123456789abcdef
int4`. The bytes of the file depend on the graph and its tensors alone.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.codec import pack_codes
from ferrule.converters.native_weights import Role

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DTYPES", "FORMAT", "GRAPH", "write_program"]

FORMAT = "ferrule-program-2"
GRAPH = "program.json"
ALIGNMENT = 64
"""Of what follows the header, and what follows the graph: arrays may be used where they lie in the file."""
DTYPES = {"float32": "F32", "int64": "I64", "int32": "I32", "bool": "BOOL", "int8": "I8", "uint8": "U8"}
"""Those that programs have, as numpy names them, the widest first -> as safetensors does."""


def write_program(
    path: Path, graph: Mapping[str, Any], tensors: Mapping[str, Tensor], roles: Mapping[str, Role]
) -> None:
    """Write beside its place, then rename. tensors: those that the graph names, of the dtypes that programs have.

    roles: say which of them are codes to be packed.
    """
    from ferrule.runtime._C import checksum

    arrays: dict[str, Any] = {GRAPH: memoryview(_pad(json.dumps(graph, separators=(",", ":")).encode(), 0))}
    packed: dict[str, str] = {}
    for name, tensor in tensors.items():
        role = roles.get(name)
        if role is not None and role.bits < 8:
            packed[name] = f" {'int' if tensor.dtype.is_signed else 'uint'}{role.bits}"
            tensor = pack_codes(tensor, role.bits)
        arrays[name] = tensor.detach().contiguous().numpy()
    header: dict[str, Any] = {}
    sums = {"format": FORMAT}
    offset = 0
    for name, array in arrays.items():
        dtype, shape = ("U8", [array.nbytes]) if name == GRAPH else (DTYPES[array.dtype.name], list(array.shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + array.nbytes]}
        sums[name] = f"{checksum(array):016x}{packed.get(name, '')}"
        offset += array.nbytes
    text = _pad(json.dumps({"__metadata__": sums, **header}, separators=(",", ":")).encode(), 8)
    handle, partial = tempfile.mkstemp(prefix=".ferrule-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for array in arrays.values():
                file.write(array)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _pad(text: bytes, before: int) -> bytes:
    """JSON with spaces behind it, so that it ends on a multiple of ALIGNMENT where `before` bytes go before it."""
    return text + b" " * (-(before + len(text)) % ALIGNMENT)
