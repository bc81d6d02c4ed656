"""What every op takes as a tensor, and what it refuses; layer_norm stands for all of them."""

from __future__ import annotations

import array
import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch

from ferrule.runtime import _C


def draw(*shape: int) -> Any:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def expected(x: Any) -> Any:
    return _C.layer_norm(np.ascontiguousarray(x), isa="scalar")


def refused(kind: str, code: str, call: Any) -> str:
    with pytest.raises(getattr(_C, kind), match=f"^{code} ") as caught:
        call()
    text = str(caught.value)
    assert "found " in text and "; allowed: " in text
    return text


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy, memoryview, lambda x: array.array("f", x.ravel())])
def test_every_source_is_taken_without_a_copy(make: Any) -> None:
    x = draw(6, 9)
    source = make(x)
    got = _C.layer_norm(source, isa="scalar")
    assert isinstance(got, np.ndarray) and got.dtype == np.float32
    np.testing.assert_array_equal(got.reshape(-1), expected(x if got.ndim == 2 else x.reshape(-1)).reshape(-1))
    assert _C.layer_norm(source, out=source, isa="scalar") is source
    np.testing.assert_array_equal(np.asarray(source).reshape(-1), got.reshape(-1))


def test_jax_arrays_are_read_and_never_written() -> None:
    numpy = pytest.importorskip("jax.numpy")
    x = draw(3, 8)
    np.testing.assert_array_equal(_C.layer_norm(numpy.asarray(x), isa="scalar"), expected(x))
    refused("KernelValueError", "FER-KER-003", lambda: _C.layer_norm(x, out=numpy.zeros((3, 8))))


def test_leading_axes_are_rows() -> None:
    x = draw(2, 3, 4, 5)
    np.testing.assert_array_equal(_C.layer_norm(x), _C.layer_norm(x.reshape(24, 5)).reshape(x.shape))
    assert _C.layer_norm(draw(5)).shape == (5,)
    for shape in ((0, 5), (5, 0), (0,), (2, 0, 3)):
        assert _C.layer_norm(np.empty(shape, np.float32)).shape == shape


@pytest.mark.parametrize("wrap", [np.asarray, torch.from_numpy])
def test_strided_rows_are_taken_as_they_are(wrap: Any) -> None:
    room = draw(8, 20)
    for view in (room[:, 3:12], room[::2, :7], room[3:4, 5:], room[:, :1], room[:0]):
        np.testing.assert_array_equal(_C.layer_norm(wrap(view), isa="scalar"), expected(view))
    target = np.zeros((8, 20), np.float32)
    assert _C.layer_norm(room[:, 3:12], out=target[:, 4:13]) is not None
    assert np.count_nonzero(target) == 72 and np.count_nonzero(target[:, 4:13]) == 72


def test_columns_of_one_array_are_apart() -> None:
    room = draw(8, 20)
    want = expected(room[:, :10])
    _C.layer_norm(room[:, :10], out=room[:, 10:], isa="scalar")
    np.testing.assert_array_equal(room[:, 10:], want)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[:, ::2],
        lambda x: x[::-1],
        lambda x: x[:, ::-1],
        lambda x: x.T,
        lambda x: np.broadcast_to(x[0], (3, 9)),
        lambda x: x.reshape(2, 3, 9)[:, :2],
        lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(6, 9),
    ],
)
def test_other_layouts_are_refused(view: Any) -> None:
    text = refused("KernelValueError", "FER-KER-003", lambda: _C.layer_norm(view(draw(6, 9))))
    assert "cop" in text


@pytest.mark.parametrize(
    "value",
    [
        None,
        "rows",
        3.0,
        [[1.0, 2.0]],
        np.float64,
        b"1234",
        draw(2, 3).astype(np.float64),
        draw(2, 3).astype(np.float16),
        draw(2, 3).astype(">f4"),
        draw(2, 3).astype(np.complex64),
        np.array(["a"]),
        np.array([None]),
        np.zeros(3, [("a", np.float32)]),
        np.array(["2020-01-01"], "datetime64[D]"),
        torch.zeros(2, 3, dtype=torch.bfloat16),
        torch.zeros(2, 3, dtype=torch.int32),
        torch.zeros(2, 3, requires_grad=True),
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(2, 3, device="meta"),
    ],
)
def test_other_types_are_refused(value: Any) -> None:
    refused("KernelTypeError", "FER-KER-001", lambda: _C.layer_norm(value))


class Exporter:
    """An object whose DLPack goes wrong in the given way."""

    def __init__(self, device: Any, capsule: Any) -> None:
        self.device, self.capsule = device, capsule

    def __dlpack_device__(self) -> Any:
        if isinstance(self.device, BaseException):
            raise self.device
        return self.device

    def __dlpack__(self, **_: Any) -> Any:
        if isinstance(self.capsule, BaseException):
            raise self.capsule
        return self.capsule


def test_foreign_exporters_cannot_crash_it() -> None:
    spent = torch.zeros(3).__dlpack__()  # a capsule that was consumed
    torch.from_dlpack(spent)
    for device, capsule in [((1, 0), None), ((1, 0), spent), ((1, 0), 7), ("x", spent), (None, spent), ((), spent)]:
        refused("KernelTypeError", "FER-KER-001", lambda d=device, c=capsule: _C.layer_norm(Exporter(d, c)))
    for error in (BufferError("no"), RuntimeError("no"), ValueError("no"), TypeError("no")):
        refused("KernelTypeError", "FER-KER-001", lambda e=error: _C.layer_norm(Exporter((1, 0), e)))
        refused("KernelTypeError", "FER-KER-001", lambda e=error: _C.layer_norm(Exporter(e, None)))
    refused("KernelValueError", "FER-KER-003", lambda: _C.layer_norm(Exporter((2, 0), None)))
    with pytest.raises(KeyboardInterrupt):
        _C.layer_norm(Exporter((1, 0), KeyboardInterrupt()))


def test_outputs_must_fit_and_be_apart() -> None:
    x = draw(6, 9)
    for out in (draw(6, 8), draw(5, 9), draw(54), draw(1, 6, 9)):
        refused("KernelValueError", "FER-KER-002", lambda o=out: _C.layer_norm(x, out=o))
    refused("KernelTypeError", "FER-KER-001", lambda: _C.layer_norm(x, out=x.astype(np.float64)))
    frozen = draw(6, 9)
    frozen.flags.writeable = False
    np.testing.assert_array_equal(_C.layer_norm(frozen, isa="scalar"), expected(x))
    refused("KernelValueError", "FER-KER-003", lambda: _C.layer_norm(x, out=frozen))
    constant = memoryview(bytes(36 * 6)).cast("f", (6, 9))
    refused("KernelValueError", "FER-KER-003", lambda: _C.layer_norm(x, out=constant))
    room = draw(7, 9)
    refused("KernelValueError", "FER-KER-003", lambda: _C.layer_norm(room[:6], out=room[1:]))
    refused("KernelValueError", "FER-KER-003", lambda: _C.layer_norm(room[:, :5], out=room[:, 4:]))
    shared = np.lib.stride_tricks.as_strided(draw(20), (6, 9), (4, 4))
    refused("KernelValueError", "FER-KER-003", lambda: _C.layer_norm(x, out=shared))


def test_views_give_their_memory_back() -> None:
    for make in (np.asarray, torch.from_numpy):
        source = make(draw(6, 9))
        gone = weakref.ref(source)
        _C.layer_norm(source)
        with pytest.raises(_C.KernelTypeError):
            _C.layer_norm(source, weight="x")  # type: ignore[arg-type]
        del source
        gc.collect()
        assert gone() is None
    room = bytearray(40)
    _C.layer_norm(memoryview(room).cast("f"))
    room.extend(b"1")  # refused while a view is open


def test_nan_flows_through_and_bad_scalars_do_not() -> None:
    x = draw(2, 8)
    x[0, 0] = np.nan
    got = _C.layer_norm(x)
    assert np.isnan(got[0]).all() and np.isfinite(got[1]).all()
    for value in (float("nan"), float("inf"), -1.0, 1e300):
        refused("KernelValueError", "FER-KER-004", lambda v=value: _C.layer_norm(x, epsilon=v))
    for kind in ("0.1", None, [1], 1j):
        refused("KernelTypeError", "FER-KER-001", lambda v=kind: _C.layer_norm(x, epsilon=v))
