"""peak: does the work that it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C


def block(count: int) -> Any:
    """Bytes at a multiple of 64."""
    room = np.ones(count + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + count]


@pytest.mark.parametrize("isa", _C.isas())
def test_counts_what_it_does(isa: str) -> None:
    for kind in ("fma", "dot_i8"):
        one = _C.peak(kind, isa=isa)  # type: ignore[arg-type]
        assert one > 0 and _C.peak(kind, 3, isa=isa) == 3 * one  # type: ignore[arg-type]
    assert _C.peak("dot_bf16", isa=isa) == 0  # of avx512_bf16 alone
    assert _C.peak("read", 5, memory=block(4096), isa=isa) == 5 * 4096


def test_bfloat16_products_have_a_name_of_their_own() -> None:
    assert "avx512_bf16" not in _C.isas()
    try:
        one = _C.peak("dot_bf16", isa="avx512_bf16")
    except _C.KernelValueError as error:
        assert str(error).startswith("FER-KER-005 isa")
        pytest.skip("this processor has no bfloat16 products")
    assert one == 2 * 32 * 24 * 4096 and _C.peak("dot_bf16", 3, isa="avx512_bf16") == 3 * one
    assert _C.peak("fma", isa="avx512_bf16") == _C.peak("fma", isa="avx512")


def test_refuses_what_it_cannot_do() -> None:
    wrong: list[tuple[str, str, dict[str, Any]]] = [
        ("FER-KER-001", "kind", {"kind": 3}),
        ("FER-KER-004", "kind", {"kind": "write"}),
        ("FER-KER-004", "units", {"kind": "fma", "units": -1}),
        ("FER-KER-001", "units", {"kind": "fma", "units": 1.5}),
        ("FER-KER-004", "memory", {"kind": "read"}),
        ("FER-KER-004", "memory", {"kind": "fma", "memory": block(1024)}),
        ("FER-KER-003", "memory", {"kind": "read", "memory": block(1000)}),
        ("FER-KER-003", "memory", {"kind": "read", "memory": block(2048)[1:1025]}),
        ("FER-KER-002", "memory", {"kind": "read", "memory": block(2048).reshape(2, 1024)}),
    ]
    for code, name, arguments in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code} {name}"):
            _C.peak(**arguments)
