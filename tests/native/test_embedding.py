"""Coded tables against their codes written out, on every instruction set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())
ROWS = 20


def pack(codes: Any, bits: int) -> Any:
    """Neighbouring codes share a byte, the first in its lowest bits."""
    per_byte = 8 // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % per_byte))) & (2**bits - 1)
    parts = padded.reshape(len(codes), -1, per_byte).astype(np.uint32) << (bits * np.arange(per_byte))
    return parts.sum(-1).astype(np.uint8)


def draw_table(kind: str, width: int, group: int) -> tuple[dict[str, Any], Any]:
    """Arguments, and the rows that they stand for."""
    rng = np.random.default_rng(width)
    if kind == "float32":
        table = rng.normal(size=(ROWS, width)).astype(np.float32)
        return {"table": table}, table
    if kind.startswith("affine"):
        codes = rng.integers(-128, 128, (ROWS, width)) if kind == "affine8" else rng.integers(-8, 8, (ROWS, width))
        groups = -(-width // group) if group else 1
        scales = rng.uniform(0.1, 1, (ROWS, groups)).astype(np.float32)
        table = codes.astype(np.int8) if kind == "affine8" else pack(codes, 4)
        spread = np.repeat(scales, group or width, axis=1)[:, :width]
        return {"table": table, "scales": scales if group else scales[:, 0], "group": group}, codes * spread
    bits = 4 if kind == "lookup4" else 2
    codes = rng.integers(0, 2**bits, (ROWS, width))
    scales = rng.uniform(0.1, 1, ROWS).astype(np.float32)
    palettes = rng.normal(size=(-(-ROWS // group) if group else 1, 2**bits)).astype(np.float32)
    rows = palettes[np.arange(ROWS) // (group or ROWS)][np.arange(ROWS)[:, None], codes] * scales[:, None]
    return {"table": pack(codes, bits), "scales": scales, "palettes": palettes, "group": group}, rows


@by_isa
@pytest.mark.parametrize("kind", ["float32", "affine8", "affine4", "lookup4", "lookup2"])
@pytest.mark.parametrize(("width", "group"), [(1, 0), (33, 0), (64, 16), (100, 32)])
def test_rows_are_decoded(isa: str, kind: Any, width: int, group: int) -> None:
    arguments, rows = draw_table(kind, width, 0 if kind == "float32" else group)
    for dtype in (np.int32, np.int64):
        indices = np.array([[0, 19, 3], [3, 7, 1]], dtype)
        got = _C.embedding(indices, kind=kind, width=width, isa=isa, **arguments)
        np.testing.assert_allclose(got, rows[indices], 1e-6, 1e-6)
    got = _C.embedding(np.array([5]), kind=kind, width=width, output_scale=2.0, isa=isa, **arguments)
    np.testing.assert_allclose(got, 2 * rows[[5]], 1e-6, 1e-6)


def test_indices_beyond_the_table_are_refused() -> None:
    table = np.zeros((4, 8), np.float32)
    out = np.ones((2, 8), np.float32)
    for wrong in (4, -1, 2**40):
        with pytest.raises(_C.KernelValueError, match="^FER-KER-004"):
            _C.embedding(np.array([0, wrong]), table, out=out)
    assert np.all(out == 1)


def test_what_does_not_fit_is_refused() -> None:
    arguments, _ = draw_table("affine4", 32, 16)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-002 table", {"width": 31 * 2}),
        ("FER-KER-004 scales", {"scales": None}),
        ("FER-KER-002 scales", {"scales": np.ones(ROWS, np.float32)}),
        ("FER-KER-004 palettes", {"palettes": np.ones((1, 16), np.float32)}),
        ("FER-KER-001 table", {"table": arguments["table"].astype(np.int8)}),
        ("FER-KER-004 kind", {"kind": "int4"}),
    ]
    for code, more in wrong:
        call = {"kind": "affine4", "width": 32, **arguments, **more}
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.embedding(np.array([0]), **call)
