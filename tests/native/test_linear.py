"""Packed linear layers against sums in double, for every codec and instruction set; their files; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())
KINDS = ["float32", "affine8", "affine4", "lookup4", "lookup2"]


def draw_layer(kind: str, rows: int, depth: int, group: int = 0, seed: int = 0) -> tuple[dict[str, Any], Any]:
    """Arguments of `pack`, and the weights that they stand for, in double."""
    rng = np.random.default_rng(seed)
    bias = rng.normal(size=rows).astype(np.float32)
    scales = rng.uniform(0.01, 0.02, rows).astype(np.float32)
    if kind == "float32":
        weight = rng.normal(size=(rows, depth)).astype(np.float32)
        return {"weight": weight, "bias": bias, "kind": kind}, weight.astype(np.float64)
    if kind.startswith("lookup"):
        entries = 16 if kind == "lookup4" else 4
        codes = rng.integers(0, entries, (rows, depth), np.uint8)
        palettes = -(-rows // group) if group else 1
        table = np.sort(rng.normal(size=(palettes, entries)).astype(np.float32), axis=1)
        weight = table[np.arange(rows) // (group or max(rows, 1)), :][np.arange(rows)[:, None], codes]
        layer = {"weight": codes, "scales": scales, "table": table, "bias": bias, "kind": kind, "group": group}
        return layer, weight.astype(np.float64) * scales[:, None]
    lowest, highest = (-127, 127) if kind == "affine8" else (-8, 7)
    codes = rng.integers(lowest, highest + 1, (rows, depth), np.int8)
    if group:
        parts = -(-depth // group)
        scales = (rng.integers(128, 256, (rows, parts)) * 2.0**-14).astype(np.float32)
        spread = np.repeat(scales, group, axis=1)[:, :depth]
    else:
        spread = scales[:, None]
    layer = {"weight": codes, "scales": scales, "bias": bias, "kind": kind, "group": group}
    return layer, codes.astype(np.float64) * spread


def reference(x: Any, weight: Any, layer: dict[str, Any], info: dict[str, Any]) -> tuple[Any, float]:
    """The product in double of what the kernel multiplies, and how far it may be off."""
    x = x.astype(np.float64)
    if info["input"] == "dynamic8":
        codes, scales, zeros = _C.quantize_rows(x.astype(np.float32), isa="scalar")
        x = (codes.astype(np.float64) - zeros[..., None]) * scales[..., None]
    slack = 1e-4 * np.abs(x) @ np.abs(weight).T + 1e-5
    if info["input"] != "float32" and layer["kind"].startswith("lookup"):
        largest = np.abs(layer["table"]).max() * layer["scales"].max()
        slack = slack + info["palette_error"] * np.abs(x) @ np.full_like(weight, largest).T
    return x @ weight.T + layer["bias"], slack


@by_isa
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("input_kind", ["float32", "dynamic8"])
def test_matches_sums_in_double(isa: str, kind: str, input_kind: str) -> None:
    if (kind, input_kind) == ("float32", "dynamic8"):
        pytest.skip("float weights are multiplied by float inputs")
    for rows, depth, count, group in ((1, 1, 1, 0), (33, 65, 3, 0), (64, 130, 17, 32), (128, 256, 66, 64)):
        group = 0 if kind in ("float32", "affine8") else group
        layer, weight = draw_layer(kind, rows, depth, group)
        packed = _C.PackedLinear.pack(**layer, input=input_kind, isa=isa)
        x = np.random.default_rng(1).normal(size=(count, depth)).astype(np.float32)
        want, slack = reference(x, weight, layer, packed.info)
        assert np.all(np.abs(packed.run(x) - want) <= slack), (rows, depth, count, group)


@by_isa
def test_epilogue(isa: str) -> None:
    layer, weight = draw_layer("affine8", 40, 64)
    packed = _C.PackedLinear.pack(**layer, input="dynamic8", isa=isa)
    x = np.random.default_rng(2).normal(size=(2, 3, 64)).astype(np.float32)
    plain = packed.run(x)
    assert plain.shape == (2, 3, 40)
    residual = np.random.default_rng(3).normal(size=(2, 3, 40)).astype(np.float32)
    np.testing.assert_allclose(packed.run(x, activation="relu", residual=residual), np.maximum(plain, 0) + residual)
    kept = residual.copy()
    assert packed.run(x, residual=kept, out=kept) is kept
    np.testing.assert_allclose(kept, plain + residual, 1e-6, 1e-6)
    codes = packed.run(x, output_scale=0.5, output_zero=3)
    assert codes.dtype == np.int8
    np.testing.assert_allclose(codes, np.clip(np.round(plain / 0.5) + 3, -128, 127), atol=1)
    with _C.Pool(3) as pool:
        np.testing.assert_array_equal(packed.run(x, pool=pool), plain)


def test_static_ranges() -> None:
    layer, weight = draw_layer("affine8", 24, 48)
    packed = _C.PackedLinear.pack(**layer, input="static8", input_scale=0.05, input_zero=-3)
    x = np.random.default_rng(2).normal(size=(5, 48)).astype(np.float32)
    codes = np.clip(np.round(x / np.float32(0.05)) - 3, -128, 127)
    want = ((codes + 3) * 0.05) @ weight.T + layer["bias"]
    np.testing.assert_allclose(packed.run(x), want, 1e-4, 1e-3)


@pytest.mark.parametrize("kind", ["affine8", "lookup4"])
def test_a_file_gives_the_same_layer(tmp_path: Path, kind: str) -> None:
    layer, _ = draw_layer(kind, 40, 64)
    packed = _C.PackedLinear.pack(**layer, input="dynamic8")
    packed.save(tmp_path / "layer")
    _C.PackedLinear.pack(**layer, input="dynamic8").save(str(tmp_path / "again"))
    assert (tmp_path / "layer").read_bytes() == (tmp_path / "again").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "layer"]
    loaded = _C.PackedLinear.load(tmp_path / "layer")
    assert loaded.info == packed.info and loaded.isa == packed.isa in _C.isas()
    x = np.ones((3, 64), np.float32)
    np.testing.assert_array_equal(loaded.run(x), packed.run(x))


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    layer, _ = draw_layer("affine8", 40, 64)
    path = tmp_path / "layer"
    _C.PackedLinear.pack(**layer, input="dynamic8").save(path)
    whole = path.read_bytes()
    damaged = [b"", whole[:50], whole[:-1], b"\0" * len(whole)]
    for place in (0, 9, 13, 20, 40, 70, len(whole) // 2, len(whole) - 1):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(_C.KernelValueError, match="^FER-KER-008"):
            _C.PackedLinear.load(path)


def test_the_system_has_its_own_errors(tmp_path: Path) -> None:
    layer, _ = draw_layer("affine8", 4, 8)
    packed = _C.PackedLinear.pack(**layer)
    for call in (lambda: _C.PackedLinear.load(tmp_path / "no"), lambda: packed.save(tmp_path / "no" / "layer")):
        with pytest.raises(FileNotFoundError):
            call()
    with pytest.raises(IsADirectoryError):
        _C.PackedLinear.load(tmp_path)
    with pytest.raises(OSError):
        packed.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(_C.KernelTypeError, match="^FER-KER-001 path"):
        packed.save(3)  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused() -> None:
    layer, _ = draw_layer("affine8", 6, 8)
    codes, scales = layer["weight"], layer["scales"]
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-001 weight", {"weight": codes.astype(np.int32)}),
        ("FER-KER-002 weight", {"weight": codes[0]}),
        ("FER-KER-003 weight", {"weight": codes[:, :4]}),
        ("FER-KER-002 scales", {"scales": scales[:5]}),
        ("FER-KER-004 scales", {"scales": None}),
        ("FER-KER-004 table", {"table": np.zeros((1, 16), np.float32)}),
        ("FER-KER-002 bias", {"bias": scales[:5]}),
        ("FER-KER-004 kind", {"kind": "int3"}),
        ("FER-KER-004 input", {"input": "int8"}),
        ("FER-KER-004 input_scale", {"input": "static8"}),
        ("FER-KER-004 input_scale", {"input_scale": 1.0}),
        ("FER-KER-004 input_scale", {"input": "static8", "input_scale": float("nan")}),
        ("FER-KER-004 input_zero", {"input": "static8", "input_scale": 1.0, "input_zero": 128}),
        ("FER-KER-004 group", {"group": -1}),
        ("FER-KER-001 sparse24", {"sparse24": 1}),
        ("FER-KER-004", {"scales": np.full(6, np.nan, np.float32)}),
        ("FER-KER-004", {"kind": "affine4"}),
    ]
    for code, more in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.PackedLinear.pack(**{**layer, **more})
    packed = _C.PackedLinear.pack(**layer)
    x = np.zeros((2, 8), np.float32)
    runs: list[tuple[str, Any, dict[str, Any]]] = [
        ("FER-KER-002 input", x[:, :7], {}),
        ("FER-KER-002 out", x, {"out": x}),
        ("FER-KER-002 residual", x, {"residual": x}),
        ("FER-KER-004 output_scale", x, {"output_scale": 0.0}),
        ("FER-KER-001 out", x, {"output_scale": 1.0, "out": np.zeros((2, 6), np.float32)}),
        ("FER-KER-004 activation", x, {"activation": "mish"}),
        ("FER-KER-003 out", x, {"out": x[:, :6]}),
    ]
    for code, rows, more in runs:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            packed.run(rows, **more)


def test_no_rows_and_no_depth() -> None:
    for rows, depth, count in ((4, 8, 0), (4, 0, 3), (0, 8, 3), (0, 0, 0)):
        layer, _ = draw_layer("affine8", rows, depth)
        got = _C.PackedLinear.pack(**layer, input="dynamic8").run(np.ones((count, depth), np.float32))
        assert got.shape == (count, rows)
        if depth == 0:
            np.testing.assert_array_equal(got, np.tile(layer["bias"], (count, 1)))
