"""Packed convolutions against torch in double, for every codec and instruction set; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ferrule.runtime import _C

by_isa = pytest.mark.parametrize("isa", _C.isas())
KINDS = [
    ("float32", "float32"),
    ("affine8", "float32"),
    ("affine8", "dynamic8"),
    ("affine8", "static8"),
    ("affine4", "dynamic8"),
    ("lookup4", "float32"),
    ("lookup2", "dynamic8"),
]
SCALE, ZERO = 0.03, -7  # of static8
WINDOWS: list[tuple[tuple[int, int, int, int], int, int, dict[str, Any]]] = [
    ((3, 3, 8, 8), 20, 1, {"padding": 1}),
    ((1, 1, 40, 33), 1, 1, {}),
    ((1, 1, 9, 6), 3, 3, {"stride": 2}),
    ((7, 5, 3, 16), 1, 1, {"stride": (4, 2), "padding": (3, 2)}),
    ((3, 2, 5, 4), 2, 2, {"dilation": (2, 3), "padding": (1, 2)}),
]
"""Kernel (height, width, input channels of a group, output channels of a group), images, groups, window."""


def draw_layer(kind: str, shape: tuple[int, ...], groups: int = 1, group: int = 0) -> tuple[dict[str, Any], Any]:
    """Arguments of `pack`, and the weights that they stand for, in double."""
    rng = np.random.default_rng(0)
    rows, depth = shape[0], int(np.prod(shape[1:]))
    layer: dict[str, Any] = {"kind": kind, "bias": rng.normal(size=rows).astype(np.float32)}
    if kind == "float32":
        layer["weight"] = rng.normal(size=shape).astype(np.float32)
        return layer, layer["weight"].astype(np.float64)
    layer["scales"] = rng.uniform(0.01, 0.02, rows).astype(np.float32)
    spread = layer["scales"].astype(np.float64).reshape(-1, *[1] * (len(shape) - 1))
    layer["group"] = group
    if kind.startswith("lookup"):
        entries = 16 if kind == "lookup4" else 4
        layer["weight"] = rng.integers(0, entries, shape, np.uint8)
        palettes = rows // group if group else groups
        layer["table"] = np.sort(rng.normal(size=(palettes, entries)).astype(np.float32), axis=1)
        of_row = np.arange(rows) // (group or rows // groups)
        flat = np.take_along_axis(layer["table"][of_row], layer["weight"].reshape(rows, depth).astype(np.int64), axis=1)
        return layer, flat.reshape(shape).astype(np.float64) * spread
    lowest, highest = (-127, 127) if kind == "affine8" else (-8, 7)
    layer["weight"] = rng.integers(lowest, highest + 1, shape, np.int8)
    if group:
        parts = -(-depth // group)
        layer["scales"] = (rng.integers(128, 256, (rows, parts)) * 2.0**-14).astype(np.float32)
        spread = np.repeat(layer["scales"].astype(np.float64), group, axis=1)[:, :depth].reshape(shape)
    return layer, layer["weight"] * spread


def quantize(x: Any, input_kind: str, pointwise: bool) -> Any:
    """What the layer makes of its input, in double."""
    if input_kind == "float32":
        return x.astype(np.float64)
    if input_kind == "static8":
        codes = np.clip(np.rint(x / np.float32(SCALE)) + ZERO, -128, 127)
        return (codes.astype(np.float64) - ZERO) * np.float32(SCALE)
    rows = x.reshape(-1, x.shape[3]) if pointwise else x.reshape(x.shape[0], -1)
    codes, scales, zeros = _C.quantize_rows(rows, isa="scalar")
    return ((codes.astype(np.float64) - zeros[:, None]) * scales[:, None]).reshape(x.shape)


def convolve(x: Any, weight: Any, **more: Any) -> Any:
    """In double by torch, channels last."""
    images, kernel = (torch.from_numpy(np.ascontiguousarray(each)).permute(0, 3, 1, 2) for each in (x, weight))
    return torch.nn.functional.conv2d(images, kernel, **more).permute(0, 2, 3, 1).numpy()


@by_isa
@pytest.mark.parametrize(("kind", "input_kind"), KINDS)
def test_matches_torch(isa: str, kind: str, input_kind: Any) -> None:
    static: dict[str, Any] = {"input_scale": SCALE, "input_zero": ZERO} if input_kind == "static8" else {}
    for (height, width, ins, outs), batch, groups, more in WINDOWS:
        layer, weight = draw_layer(kind, (outs * groups, height, width, ins), groups)
        packed = _C.PackedConv.pack(**layer, **static, input=input_kind, groups=groups, isa=isa)
        assert packed.info["groups"] == groups and packed.info["kernel"] == (height, width)
        x = np.random.default_rng(1).normal(size=(batch, 9, 10, ins * groups)).astype(np.float32)
        seen = quantize(x, input_kind, (height, width) == (1, 1))
        want = convolve(seen, weight, groups=groups, **more) + layer["bias"]
        slack = 1e-4 * convolve(np.abs(seen), np.abs(weight), groups=groups, **more) + 1e-4
        if kind == "lookup2" and input_kind == "dynamic8":
            largest = np.full_like(weight, np.abs(layer["table"]).max() * layer["scales"].max())
            slack += packed.info["palette_error"] * convolve(np.abs(seen), largest, groups=groups, **more)
        got = packed.run(x, **more)
        assert np.all(np.abs(got - want) <= slack), (height, width, ins, outs, groups)


@by_isa
@pytest.mark.parametrize(("kind", "group"), [("affine4", 32), ("lookup4", 4), ("lookup2", 8), ("lookup2", 0)])
def test_groups_of_scales_and_palettes(isa: str, kind: str, group: int) -> None:
    layer, weight = draw_layer(kind, (16, 3, 3, 8), 2, group)
    packed = _C.PackedConv.pack(**layer, groups=2, isa=isa)
    x = np.random.default_rng(1).normal(size=(2, 6, 5, 16)).astype(np.float32)
    np.testing.assert_allclose(
        packed.run(x), convolve(x.astype(np.float64), weight, groups=2) + layer["bias"], 1e-3, 1e-3
    )


@by_isa
def test_codes_as_input(isa: str) -> None:
    layer, weight = draw_layer("affine8", (12, 3, 3, 8))
    packed = _C.PackedConv.pack(**layer, input="static8", input_scale=SCALE, input_zero=ZERO, isa=isa)
    wide = np.random.default_rng(1).integers(-128, 128, (2, 7, 6, 11), np.int8)
    codes = wide[..., 2:10]
    want = convolve((codes.astype(np.float64) - ZERO) * SCALE, weight, padding=1) + layer["bias"]
    got = packed.run(codes, padding=1)
    np.testing.assert_allclose(got, want, 1e-4, 1e-3)
    shifted = (codes.astype(np.int16) + 128).astype(np.uint8)
    np.testing.assert_array_equal(packed.run(shifted, padding=1), got)


@by_isa
def test_epilogue_strides_and_threads(isa: str) -> None:
    layer, weight = draw_layer("float32", (10, 3, 3, 6))
    packed = _C.PackedConv.pack(**layer, isa=isa)
    assert packed.isa in _C.isas()
    wide = np.random.default_rng(2).normal(size=(2, 7, 8, 9)).astype(np.float32)
    x = wide[..., 1:7]
    plain = packed.run(x, padding=(0, 1, 2, 0))
    padded = np.pad(x, ((0, 0), (0, 1), (2, 0), (0, 0))).astype(np.float64)
    np.testing.assert_allclose(plain, convolve(padded, weight) + layer["bias"], 1e-4, 1e-4)
    residual = np.random.default_rng(3).normal(size=plain.shape).astype(np.float32)
    kept = residual.copy()
    assert packed.run(x, padding=(0, 1, 2, 0), activation="relu", residual=kept, out=kept) is kept
    np.testing.assert_allclose(kept, np.maximum(plain, 0) + residual, 1e-6, 1e-6)
    coded = packed.run(x, padding=(0, 1, 2, 0), output_scale=0.1, output_zero=3)
    assert coded.dtype == np.int8
    np.testing.assert_allclose(coded, np.clip(np.round(plain / 0.1) + 3, -128, 127), atol=1)
    with _C.Pool(3) as pool:
        np.testing.assert_array_equal(packed.run(torch.from_numpy(x), padding=(0, 1, 2, 0), pool=pool), plain)


def test_nothing_in_and_nothing_out() -> None:
    for outs, ins, batch in ((4, 3, 0), (4, 0, 2), (0, 3, 2)):
        layer, _ = draw_layer("affine8", (outs, 2, 2, ins))
        for input_kind in ("float32", "dynamic8"):
            packed = _C.PackedConv.pack(**layer, input=input_kind)
            got = packed.run(np.ones((batch, 3, 3, ins), np.float32))
            assert got.shape == (batch, 2, 2, outs)
            if ins == 0:
                np.testing.assert_array_equal(got, np.broadcast_to(layer["bias"], got.shape))


def test_what_does_not_fit_is_refused() -> None:
    layer, _ = draw_layer("affine8", (6, 3, 3, 4))
    codes, scales = layer["weight"], layer["scales"]
    lookup, _ = draw_layer("lookup4", (6, 3, 3, 4), group=2)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-001 weight", {"weight": codes.astype(np.int32)}),
        ("FER-KER-002 weight", {"weight": codes[0]}),
        ("FER-KER-003 weight", {"weight": codes[..., :2]}),
        ("FER-KER-002 weight", {"weight": codes[:, :0]}),
        ("FER-KER-002 scales", {"scales": scales[:5]}),
        ("FER-KER-004 scales", {"scales": None}),
        ("FER-KER-002 bias", {"bias": scales[:5]}),
        ("FER-KER-004 kind", {"kind": "int3"}),
        ("FER-KER-004 groups", {"groups": 4}),
        ("FER-KER-004 groups", {"groups": 0}),
        ("FER-KER-001 groups", {"groups": 1.0}),
        ("FER-KER-004 group:", {**lookup, "groups": 2}),
        ("FER-KER-002 table", {**lookup, "group": 0, "groups": 2}),
        ("FER-KER-004 input_scale", {"input": "static8"}),
        ("FER-KER-005 isa", {"isa": "mmx"}),
        ("FER-KER-004", {"scales": np.full(6, np.nan, np.float32)}),
    ]
    for code, more in wrong:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            _C.PackedConv.pack(**{**layer, **more})
    packed = _C.PackedConv.pack(**layer, input="dynamic8")
    x = np.zeros((1, 6, 6, 4), np.float32)
    runs: list[tuple[str, dict[str, Any]]] = [
        ("FER-KER-002 input", {"input": x[..., :3]}),
        ("FER-KER-002 input", {"input": x[0]}),
        ("FER-KER-001 input", {"input": x.astype(np.int8)}),
        ("FER-KER-003 input", {"input": np.zeros((1, 6, 6, 8), np.float32)[..., :4]}),
        ("FER-KER-002 kernel", {"input": x[:, :2].copy()}),
        ("FER-KER-004 stride", {"stride": 0}),
        ("FER-KER-002 out", {"out": x}),
        ("FER-KER-002 residual", {"residual": x}),
        ("FER-KER-004 activation", {"activation": "mish"}),
        ("FER-KER-004 output_scale", {"output_scale": -1.0}),
        ("FER-KER-001 pool", {"pool": 2}),
    ]
    for code, more in runs:
        with pytest.raises((_C.KernelTypeError, _C.KernelValueError), match=f"^{code}"):
            packed.run(**{"input": x, **more})
