"""Calls every op with arguments that are wrong in random ways: `python tests/native/fuzz.py [EXAMPLES]`.

A process of its own, since what it looks for is a crash. Each op has one valid call here, which is then spoilt: one or
two arguments get another dtype, rank, size, stride, an overlap, or a foreign object in their place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferrule.runtime import _C

Case = dict[str, Any]


def floats(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def block() -> Any:
    room = np.ones(2048 + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + 2048]


CASES: dict[str, Callable[[], Case]] = {
    "layer_norm": lambda: {
        "input": floats(3, 8),
        "weight": floats(8),
        "bias": floats(8),
        "residual": floats(3, 8),
        "epsilon": 1e-5,
        "out": floats(3, 8),
        "sum": floats(3, 8),
    },
    "activate": lambda: {"input": floats(3, 8), "kind": "gelu", "factor": floats(3, 8), "out": floats(3, 8)},
    "conv_depthwise": lambda: {
        "input": floats(1, 5, 5, 8),
        "weight": floats(3, 3, 8),
        "bias": floats(8),
        "stride": 1,
        "padding": (1, 1),
        "dilation": 1,
        "activation": "relu",
        "residual": floats(1, 5, 5, 8),
        "out": floats(1, 5, 5, 8),
    },
    "embedding": lambda: {
        "indices": np.arange(3),
        "table": np.ones((6, 16), np.uint8),
        "kind": "lookup4",
        "width": 32,
        "scales": floats(6),
        "palettes": floats(3, 16),
        "group": 2,
        "output_scale": 2.0,
        "out": floats(3, 32),
    },
    "PackedConv.pack": lambda: {
        "weight": np.ones((6, 3, 3, 4), np.uint8),
        "scales": floats(6),
        "kind": "lookup4",
        "input": "static8",
        "table": floats(2, 16),
        "bias": floats(6),
        "group": 3,
        "sparse24": False,
        "input_scale": 0.1,
        "input_zero": 3,
        "groups": 2,
    },
    "PackedConv.run": lambda: {
        "input": floats(1, 5, 5, 8),
        "stride": 1,
        "padding": (1, 1),
        "dilation": 1,
        "activation": "relu",
        "residual": floats(1, 5, 5, 6),
        "output_scale": None,
        "output_zero": 0,
        "out": floats(1, 5, 5, 6),
    },
    "PackedDepthwise": lambda: {"codes": np.ones((3, 3, 8), np.int8), "scales": floats(8), "bias": floats(8)},
    "PackedDepthwise.run": lambda: {
        "input": np.ones((1, 5, 5, 8), np.uint8),
        "input_scale": 0.1,
        "input_zero": 3,
        "stride": 1,
        "padding": (1, 1),
        "dilation": 1,
        "activation": "relu",
        "residual": floats(1, 5, 5, 8),
        "output_scale": None,
        "output_zero": 0,
        "out": floats(1, 5, 5, 8),
    },
    "mean_tokens": lambda: {
        "input": floats(2, 5, 8),
        "mask": np.ones((2, 5), np.uint8),
        "normalize": True,
        "out": floats(2, 8),
    },
    "pooling": lambda: {
        "input": floats(1, 5, 5, 8),
        "kind": "max",
        "kernel": (3, 3),
        "stride": 2,
        "padding": (1, 1),
        "dilation": 1,
        "ceil_mode": False,
        "count_padding": False,
        "layout": "channels_last",
        "out": floats(1, 3, 3, 8),
    },
    "pooling_i8": lambda: {
        "input": np.ones((1, 5, 5, 8), np.int8),
        "kind": "average",
        "kernel": (3, 3),
        "stride": 2,
        "padding": (1, 1),
        "dilation": 1,
        "ceil_mode": True,
        "count_padding": True,
        "padding_code": 3,
        "out": np.zeros((1, 3, 3, 8), np.int8),
    },
    "quantize_rows": lambda: {
        "input": floats(3, 8),
        "signed": False,
        "scale": None,
        "zero": 0,
        "out": np.zeros((3, 8), np.uint8),
        "scales": floats(3),
        "zeros": np.zeros(3, np.int32),
    },
    "rms_norm": lambda: {"input": floats(3, 8), "weight": floats(8), "residual": floats(3, 8), "sum": floats(3, 8)},
    "rope": lambda: {
        "input": floats(3, 2, 8),
        "cosines": floats(9, 4),
        "sines": floats(9, 4),
        "positions": np.arange(3, dtype=np.int32),
        "pairs": "halves",
        "out": floats(3, 2, 8),
    },
    "rope_tables": lambda: {
        "rows": 3,
        "half": 4,
        "frequencies": np.ones(4),
        "magnitude": 1.0,
        "positions": np.arange(3, dtype=np.int32),
        "first_position": 1,
    },
    "softmax": lambda: {
        "input": floats(3, 8),
        "mask": floats(8),
        "scale": 1.0,
        "logarithm": False,
        "out": floats(3, 8),
    },
    "PackedLinear.pack": lambda: {
        "weight": np.ones((6, 32), np.int8),
        "scales": floats(6),
        "kind": "affine8",
        "input": "dynamic8",
        "table": None,
        "bias": floats(6),
        "group": 0,
        "sparse24": False,
        "input_scale": None,
        "input_zero": 0,
    },
    "PackedLinear.run": lambda: {
        "input": floats(3, 32),
        "activation": "gelu",
        "residual": floats(3, 6),
        "output_scale": None,
        "output_zero": 0,
        "out": floats(3, 6),
    },
    "hadamard": lambda: {"input": floats(3, 16), "scale": 1.0, "transposed": False, "out": floats(3, 16)},
    "rational": lambda: {
        "input": floats(3, 8),
        "numerator": floats(2, 6),
        "denominator": floats(2, 4),
        "form": "sum",
        "out": floats(3, 8),
    },
    "selective_scan": lambda: {
        "input": floats(1, 5, 8),
        "delta": floats(1, 5, 8),
        "a": floats(8, 3),
        "b": floats(1, 5, 2, 3),
        "c": floats(1, 5, 2, 3),
        "delta_bias": floats(8),
        "skip": floats(8),
        "gate": floats(1, 5, 8),
        "initial_state": floats(1, 8, 3),
        "final_state": floats(1, 8, 3),
        "softplus": True,
        "out": floats(1, 5, 8),
    },
    "token_match": lambda: {
        "metric": floats(2, 1, 9, 8),
        "count": 2,
        "sizes": np.ones((2, 9), np.float32),
        "counts": np.full(2, 3, np.int32),
        "protected_tokens": 1,
    },
    "token_merge": lambda: {
        "input": floats(2, 9, 8),
        "plan": np.zeros((2, 9), np.int32),
        "left": 7,
        "sizes": np.ones((2, 9), np.float32),
        "out": floats(2, 7, 8),
        "merged_sizes": floats(2, 7),
    },
    "token_unmerge": lambda: {"input": floats(2, 7, 8), "plan": np.zeros((2, 9), np.int32), "out": floats(2, 9, 8)},
    "attention": lambda: {
        "queries": floats(1, 4, 5, 16),
        "keys": floats(1, 2, 7, 16),
        "values": _C.quantize_kv(floats(1, 2, 7, 16), bits=4),
        "scale": 0.5,
        "causal": True,
        "bias": floats(1, 4, 5, 7),
        "slopes": floats(4),
        "sizes": np.ones((1, 7), np.float32),
        "key_begins": np.zeros(1, np.int32),
        "key_ends": np.full(1, 6, np.int32),
        "out": floats(1, 4, 5, 16),
        "log_sums": floats(1, 4, 5),
    },
    "quantize_kv": lambda: {
        "input": floats(1, 2, 3, 32),
        "bits": 4,
        "group": 16,
        "symmetric": False,
        "clip": 0.9,
        "out": np.zeros((1, 2, 3, 16), np.uint8),
        "scales": floats(1, 2, 3, 2),
        "offsets": floats(1, 2, 3, 2),
    },
    "peak": lambda: {"kind": "read", "units": 2, "memory": block()},
}
WITHOUT_POOL = ("peak", "PackedConv.pack", "PackedDepthwise", "PackedLinear.pack")
WITHOUT_ISA = ("PackedConv.run", "PackedDepthwise", "PackedLinear.run")
CONV = _C.PackedConv.pack(
    np.ones((6, 3, 3, 4), np.int8), floats(6), kind="affine8", input="static8", input_scale=0.1, groups=2
)
DEPTHWISE = _C.PackedDepthwise(np.ones((3, 3, 8), np.int8), floats(8))
LAYER = _C.PackedLinear.pack(np.ones((6, 32), np.int8), floats(6), kind="affine8", input="dynamic8")
JUNK = [
    None,
    0,
    -1,
    1,
    7,
    2**31,
    2**63,
    2**70,
    0.0,
    -1.5,
    float("nan"),
    float("inf"),
    1e300,
    True,
    "",
    "gelu",
    b"\0" * 64,
]
JUNK += [
    "gelu",
    b"\0" * 64,
    [],
    [1.0],
    {},
    object(),
    np.float32(1),
    np.array(3.0, np.float32),
    memoryview(b"abcd"),
    int,
    bytearray(16),
]
DTYPES = ["f4", "f8", "f2", ">f4", "i1", "u1", "i2", "i4", "i8", "u4", "?", "c8", "S3", "O"]


@st.composite
def spoil(draw: Any, value: Any) -> Any:
    """Something beside what `value` is."""
    if isinstance(value, tuple) and draw(st.booleans()):  # one part of a cache
        place = draw(st.integers(0, len(value) - 1))
        return (*value[:place], draw(spoil(value[place])), *value[place + 1 :])
    if not isinstance(value, np.ndarray) or value.size > 1e6 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(JUNK))
    way = draw(st.sampled_from(["dtype", "shape", "slice", "step", "offset", "transpose", "repeat", "scale", "axes"]))
    if way == "dtype":
        return np.zeros(value.shape if value.size < 1e6 else 3, draw(st.sampled_from(DTYPES)))
    if way == "shape":
        shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 9, 16, 33]), max_size=6))
        return np.ones(shape if np.prod(shape, dtype=float) < 1e6 else [3], value.dtype)
    if way == "slice" and value.ndim:
        axis = draw(st.integers(0, value.ndim - 1))
        return np.moveaxis(np.moveaxis(value, axis, 0)[draw(st.integers(0, 2)) :], 0, axis)
    if way == "step" and value.ndim:
        axis = draw(st.integers(0, value.ndim - 1))
        return np.moveaxis(np.moveaxis(value, axis, 0)[:: draw(st.sampled_from([-1, 2, -2]))], 0, axis)
    if way == "offset" and not value.dtype.hasobject:
        return np.frombuffer(b"\1" * (value.nbytes + 1), np.uint8)[1:].view(value.dtype).reshape(value.shape)
    if way == "transpose":
        return value.T
    if way == "repeat":
        return np.broadcast_to(value, (draw(st.sampled_from([0, 1, 3, 2**40])), *value.shape))
    if way == "scale" and value.dtype.kind in "iu":
        return np.full_like(value, draw(st.sampled_from([np.iinfo(value.dtype).min, np.iinfo(value.dtype).max])))
    if way == "scale" and value.dtype.kind == "f":
        return np.full_like(value, draw(st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 1e-44, 0.0])))
    return value[None]


@st.composite
def calls(draw: Any) -> tuple[str, Case]:
    op = draw(st.sampled_from(sorted(CASES)))
    case = {**CASES[op](), "isa": None, "pool": None}
    for name, without in (("pool", WITHOUT_POOL), ("isa", WITHOUT_ISA)):
        if op in without:
            del case[name]
    for name in draw(st.lists(st.sampled_from(sorted(case)), max_size=2)):
        case[name] = draw(spoil(case[name]))
    tensors = [name for name, value in case.items() if isinstance(value, np.ndarray)]
    if tensors and draw(st.integers(0, 4)) == 0:  # two arguments in the same memory
        case[draw(st.sampled_from(tensors))] = case[draw(st.sampled_from(tensors))]
    if "isa" in case and draw(st.integers(0, 2)) == 0:
        case["isa"] = draw(st.sampled_from(_C.isas()))
    return op, case


def function(op: str) -> Callable[..., Any]:
    """The op itself; methods of layers are called on one that is there."""
    methods: dict[str, Callable[..., Any]] = {
        "PackedConv.pack": _C.PackedConv.pack,
        "PackedConv.run": CONV.run,
        "PackedDepthwise.run": DEPTHWISE.run,
        "PackedLinear.pack": _C.PackedLinear.pack,
        "PackedLinear.run": LAYER.run,
    }
    return methods.get(op) or getattr(_C, op)


def main(examples: int) -> None:
    for op, case in CASES.items():  # each is valid as it stands
        function(op)(**case())
    outcomes = dict.fromkeys(CASES, (0, 0))

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(calls())
    def run(call: tuple[str, Case]) -> None:
        op, case = call
        done, refused = outcomes[op]
        try:
            function(op)(**case)
            outcomes[op] = done + 1, refused
        except (_C.KernelTypeError, _C.KernelValueError) as error:
            assert str(error).startswith("FER-KER-0"), error
            outcomes[op] = done, refused + 1

    run()
    for op, (done, refused) in outcomes.items():
        print(f"{op}: {done} done, {refused} refused")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
