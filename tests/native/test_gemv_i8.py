"""Every gemv_i8 row of the kernel table against an int64 reference, its arguments and its dispatch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ferrule.runtime import _C

ROWS = [isa for op, isa in _C.kernels() if op == "gemv_i8" and isa in _C.isas()]
# Around the widths of the SIMD loops: 16 codes deep, 8 rows, 64-byte cache lines; and real layers.
SHAPES = [
    (0, 0),
    (0, 5),
    (5, 0),
    (1, 1),
    (1, 16),
    (1, 1000),
    (7, 15),
    (8, 16),
    (9, 17),
    (15, 31),
    (16, 63),
    (17, 64),
    (23, 65),
    (33, 127),
    (384, 384),
    (101, 1536),
]
by_row = pytest.mark.parametrize("isa", ROWS)


def reference(
    weights: npt.NDArray[np.int8],
    scales: npt.NDArray[np.float32],
    activations: npt.NDArray[np.int8],
    scale: float,
    zero: int,
    bias: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Sum in int64, then the float32 steps in the documented order."""
    sums = weights.astype(np.int64) @ (activations.astype(np.int64) - zero)
    scaled = (np.float32(scale) * scales) * sums.astype(np.float32)
    return scaled if bias is None else scaled + bias


def draw(seed: int, rows: int, depth: int) -> dict[str, Any]:
    """Random arguments over the whole range of codes and zero points."""
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.integers(-128, 128, (rows, depth), dtype=np.int8),
        "weight_scales": rng.uniform(1e-4, 0.1, rows).astype(np.float32),
        "activations": rng.integers(-128, 128, depth, dtype=np.int8),
        "activation_scale": float(rng.uniform(1e-3, 0.1)),
        "activation_zero": int(rng.integers(-128, 128)),
        "bias": rng.normal(size=rows).astype(np.float32),
    }


@by_row
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows", "depth"), SHAPES)
def test_matches_reference_bit_for_bit(isa: str, rows: int, depth: int, with_bias: bool) -> None:
    args = draw(rows * 1000 + depth, rows, depth)
    if not with_bias:
        args["bias"] = None
    got = _C.gemv_i8(**args, isa=isa)
    assert got.dtype == np.float32 and got.shape == (rows,)
    np.testing.assert_array_equal(got, reference(*args.values()))


@by_row
def test_matches_reference_on_random_shapes(isa: str) -> None:
    rng = np.random.default_rng(7)
    for seed in range(200):
        args = draw(seed, int(rng.integers(0, 70)), int(rng.integers(0, 300)))
        np.testing.assert_array_equal(_C.gemv_i8(**args, isa=isa), reference(*args.values()))


@by_row
@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize(("activation", "zero"), [(-128, 127), (127, -128), (-128, -128), (-128, 0)])
def test_exact_at_the_ends_of_the_range_and_greatest_depth(isa: str, weight: int, activation: int, zero: int) -> None:
    depth = _C.GEMV_I8_MAX_DEPTH
    args = draw(0, 9, depth)
    args["weights"][:] = weight
    args["activations"][:] = activation
    args |= {"activation_zero": zero, "activation_scale": 1.0, "bias": None}
    args["weight_scales"][:] = 1.0
    expected = np.float32(depth * weight * (activation - zero))
    np.testing.assert_array_equal(_C.gemv_i8(**args, isa=isa), np.full(9, expected))


@by_row
def test_takes_weights_at_any_address(isa: str) -> None:
    for offset in (1, 3, 17):
        args = draw(offset, 19, 77)
        room = np.empty(offset + 19 * 77, np.int8)
        room[offset:] = args["weights"].ravel()
        args["weights"] = room[offset:].reshape(19, 77)
        np.testing.assert_array_equal(_C.gemv_i8(**args, isa=isa), reference(*args.values()))


@by_row
def test_arguments_are_not_written_to(isa: str) -> None:
    args = draw(3, 9, 33)
    before = {name: np.copy(value) for name, value in args.items()}
    _C.gemv_i8(**args, isa=isa)
    for name, value in args.items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_numpy_scalars_and_read_only_arrays_are_taken() -> None:
    args = draw(4, 9, 33)
    args |= {"activation_scale": np.float32(0.5), "activation_zero": np.int64(-3)}
    args["weights"].flags.writeable = False
    np.testing.assert_array_equal(_C.gemv_i8(**args), reference(*args.values()))


def test_threads_that_share_weights_agree() -> None:
    args = draw(5, 256, 512)
    expected = reference(*args.values())
    wrong: list[int] = []

    def call_often(worker: int) -> None:
        if not all(np.array_equal(_C.gemv_i8(**args), expected) for _ in range(200)):
            wrong.append(worker)

    threads = [threading.Thread(target=call_often, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


FLOAT64 = np.ones(4)
UNALIGNED = np.frombuffer(bytearray(17), np.uint8)[1:].view(np.float32)


@pytest.mark.parametrize(
    ("change", "error", "code", "says"),
    [
        (
            {"weights": np.ones((4, 6), np.uint8)},
            TypeError,
            "FER-KER-001 weights",
            "found uint8 of shape (4, 6)",
        ),
        ({"weights": [[1] * 6] * 4}, TypeError, "FER-KER-001 weights", "found list"),
        ({"weights": None}, TypeError, "FER-KER-001 weights", "found NoneType"),
        ({"weights": np.ones(24, np.int8)}, ValueError, "FER-KER-002 weights", "rank 2"),
        ({"weights": np.ones((6, 4), np.int8).T}, ValueError, "FER-KER-003 weights", "ascontiguousarray"),
        ({"weights": np.ones((4, 12), np.int8)[:, ::2]}, ValueError, "FER-KER-003 weights", "C-contiguous"),
        ({"weights": np.ones((1, 65537), np.int8)}, ValueError, "FER-KER-004 weights", "at most 65536"),
        ({"weight_scales": FLOAT64}, TypeError, "FER-KER-001 weight_scales", "found float64 of shape (4,)"),
        ({"weight_scales": np.ones(4, ">f4")}, TypeError, "FER-KER-001 weight_scales", "found >f4"),
        ({"weight_scales": np.ones(5, np.float32)}, ValueError, "FER-KER-002 weight_scales", "length 4"),
        ({"weight_scales": UNALIGNED}, ValueError, "FER-KER-003 weight_scales", "aligned"),
        ({"activations": np.ones(7, np.int8)}, ValueError, "FER-KER-002 activations", "found length 7"),
        ({"activations": np.ones((1, 6), np.int8)}, ValueError, "FER-KER-002 activations", "rank 1"),
        ({"bias": FLOAT64}, TypeError, "FER-KER-001 bias", "float32"),
        ({"bias": np.ones(3, np.float32)}, ValueError, "FER-KER-002 bias", "found length 3"),
        ({"activation_scale": "x"}, TypeError, "FER-KER-001 activation_scale", "found str"),
        ({"activation_scale": float("nan")}, ValueError, "FER-KER-004 activation_scale", "found nan"),
        ({"activation_scale": 1e300}, ValueError, "FER-KER-004 activation_scale", "finite float32"),
        ({"activation_zero": 1.5}, TypeError, "FER-KER-001 activation_zero", "found float"),
        ({"activation_zero": 128}, ValueError, "FER-KER-004 activation_zero", "found 128"),
        ({"activation_zero": -(2**70)}, ValueError, "FER-KER-004 activation_zero", "-128 to 127"),
        ({"isa": "mmx"}, ValueError, "FER-KER-005 isa", "'mmx' (no instruction set of this name)"),
        ({"isa": 3}, TypeError, "FER-KER-001 isa", "found int"),
    ],
)
def test_bad_arguments_are_refused(change: dict[str, Any], error: type[Exception], code: str, says: str) -> None:
    args = draw(6, 4, 6) | change
    with pytest.raises(error) as caught:
        _C.gemv_i8(**args)
    assert isinstance(caught.value, _C.KernelTypeError | _C.KernelValueError)
    message = str(caught.value)
    assert message.startswith(f"{code}: found ") and says in message and "; allowed: " in message


def run_with_isa(value: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter under FERRULE_ISA=value: the variable is read once a process."""
    environment = os.environ | {"FERRULE_ISA": value}
    return subprocess.run(
        [sys.executable, "-c", f"from ferrule.runtime import _C\n{code}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@by_row
def test_environment_forces_an_instruction_set(isa: str) -> None:
    done = run_with_isa(isa, "print(_C.active_isa())")
    assert (done.stdout.strip(), done.stderr) == (isa, "")


def test_empty_environment_variable_counts_as_unset() -> None:
    assert run_with_isa("", "print(_C.active_isa())").stdout.strip() == _C.isas()[-1]


@pytest.mark.parametrize("call", ["_C.active_isa()", "_C.gemv_i8(w, s, w[0], 1.0, 0)"])
def test_unknown_instruction_set_in_environment_is_refused(call: str) -> None:
    arrays = "import numpy as np\nw = np.ones((1, 4), np.int8)\ns = np.ones(1, np.float32)\n"
    done = run_with_isa("AVX2", arrays + call)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "FER-KER-006 environment variable FERRULE_ISA: found 'AVX2'" in last
    assert last.endswith("allowed: " + ", ".join(_C.isas()))
