"""Sessions: inputs checked by name, shape and dtype; buckets padded and cut; the engine found or named."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ferrule.converters import TARGETS
from ferrule.errors import InputError, TargetError
from ferrule.program import Dim, Signature, TensorSpec
from ferrule.runtime import session as session_module
from ferrule.runtime.session import ENGINES, Session, open_program

TOKENS = Dim("tokens", 2, 32)
SIGNATURE = Signature(
    (TensorSpec("ids", "int64", (1, "tokens")), TensorSpec("weight", "float32", (1, "tokens", 2))),
    (TensorSpec("row", "float32", (1, "tokens")), TensorSpec("total", "float32", (1,))),
    {"tokens": TOKENS},
    {"ids": 0, "weight": 0.0},
)
BUCKETS = Signature(SIGNATURE.inputs, SIGNATURE.outputs, SIGNATURE.dims, SIGNATURE.padding, (8, 16))


class Numpy:
    """An engine that computes with numpy, and remembers which program it was asked for and with what."""

    name = "numpy"

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, NDArray[Any]]]] = []
        self.closed = False

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        self.calls.append((program, dict(inputs)))
        row = (inputs["ids"] * inputs["weight"].sum(-1)).astype(np.float32)
        return [row, row.sum(-1)]

    def close(self) -> None:
        self.closed = True


def inputs(length: int) -> dict[str, NDArray[Any]]:
    return {
        "ids": np.arange(1, length + 1)[None],
        "weight": np.linspace(0, 1, 2 * length, dtype=np.float32).reshape(1, length, 2),
    }


def refusal(session: Session, given: Mapping[str, Any], entry: str | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        session.run(given, entry)
    return caught.value


@pytest.mark.parametrize(
    ("length", "program"), [(2, "forward_8"), (8, "forward_8"), (9, "forward_16"), (16, "forward_16")]
)
def test_inputs_are_padded_to_the_next_bucket_and_outputs_cut(length: int, program: str) -> None:
    padded, plain = Numpy(), Numpy()
    found = Session(padded, {"forward": BUCKETS}).run(inputs(length))
    wanted = Session(plain, {"forward": SIGNATURE}).run(inputs(length))
    (called, given), (whole, same) = padded.calls[0], plain.calls[0]
    assert called == program and whole == "forward"
    bucket = int(program.rpartition("_")[2])
    assert given["ids"].shape == (1, bucket) and given["weight"].shape == (1, bucket, 2)
    assert given["ids"].flags.c_contiguous and not given["ids"][:, length:].any()
    assert same["ids"].shape == (1, length)
    assert found["row"].shape == (1, length)
    assert np.allclose(found["row"], wanted["row"]) and np.allclose(found["total"], wanted["total"])


def test_lengths_outside_the_range_are_told_with_the_range() -> None:
    for signature, length, allowed in ((SIGNATURE, 1, "2 to 32"), (SIGNATURE, 33, "2 to 32"), (BUCKETS, 17, "2 to 16")):
        error = refusal(Session(Numpy(), {"forward": signature}), inputs(length))
        assert error.code == "FER-INP-005" and f"length {length}; {allowed}" in error.message


def test_an_input_without_padding_must_fit_a_bucket() -> None:
    signature = Signature(BUCKETS.inputs, BUCKETS.outputs, BUCKETS.dims, {"ids": 0}, (8, 16))
    session = Session(Numpy(), {"forward": signature})
    assert session.run(inputs(8))["row"].shape == (1, 8)
    error = refusal(session, inputs(9))
    assert error.code == "FER-INP-005" and "'weight'" in error.message and "[8, 16]" in error.message


WRONG = [
    ({"ids": np.ones((1, 4), int)}, "FER-INP-004", "['ids'] were given; 'forward' takes ['ids', 'weight']"),
    ({**inputs(4), "more": 1}, "FER-INP-004", "'more'"),
    ({**inputs(4), "ids": np.ones((2, 4), int)}, "FER-INP-005", "[2, 4]; [1, 'tokens'] is needed"),
    ({**inputs(4), "ids": np.ones(4, int)}, "FER-INP-005", "[4]"),
    (
        {**inputs(4), "weight": inputs(5)["weight"]},
        "FER-INP-005",
        "[1, 5, 2]; [1, 'tokens', 2] is needed with {'tokens': 4}",
    ),
    ({**inputs(4), "ids": np.ones((1, 4))}, "FER-INP-006", "'ids' is float64; int64 is needed"),
    ({**inputs(4), "ids": np.ones((1, 4), bool)}, "FER-INP-006", "'ids' is bool"),
    ({**inputs(4), "weight": np.ones((1, 4, 2), int)}, "FER-INP-006", "'weight' is int64; float32"),
    ({**inputs(4), "weight": [["a", "b"]]}, "FER-INP-006", "'weight' is <U1"),
]


@pytest.mark.parametrize(("given", "code", "told"), WRONG, ids=[w[2] for w in WRONG])
def test_inputs_that_do_not_fit_are_refused(given: dict[str, Any], code: str, told: str) -> None:
    engine = Numpy()
    error = refusal(Session(engine, {"forward": SIGNATURE}), given)
    assert error.code == code and told in error.message and not engine.calls


def test_widths_of_the_same_kind_are_converted() -> None:
    engine = Numpy()
    session = Session(engine, {"forward": SIGNATURE})
    given = inputs(4)
    wanted = session.run(given)
    loose = {"ids": given["ids"].astype(np.int8).tolist(), "weight": given["weight"].astype(np.float64)[:, :, ::1]}
    assert np.allclose(session.run(loose)["row"], wanted["row"])
    assert {k: v.dtype for k, v in engine.calls[1][1].items()} == {"ids": np.int64, "weight": np.float32}
    narrow = Signature((TensorSpec("ids", "int32", (1, 2)), SIGNATURE.inputs[1]), SIGNATURE.outputs, {"tokens": TOKENS})
    error = refusal(
        Session(Numpy(), {"forward": narrow}), {"ids": np.array([[1, 2**40]]), "weight": inputs(2)["weight"]}
    )
    assert error.code == "FER-INP-006" and "int32 cannot" in error.message


@pytest.mark.parametrize(("shape", "kept"), [((), ()), ((1,), (1,))])
def test_a_scalar_keeps_its_shape_unless_the_artefact_takes_vectors(
    shape: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    class Echo(Numpy):
        def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
            return [inputs["t"]]

    signature = Signature((TensorSpec("t", "float32", shape),), (TensorSpec("y", "float32", shape),))
    for given in (2.5, np.float32(2.5)):
        assert Session(Echo(), {"forward": signature}).run({"t": given})["y"].shape == kept


def test_the_entry_point_may_be_left_out_where_it_is_clear() -> None:
    engine = Numpy()
    Session(engine, {"encode": SIGNATURE}).run(inputs(3))
    both = Session(engine, {"encode": SIGNATURE, "forward": SIGNATURE})
    both.run(inputs(3))
    both.run(inputs(3), "encode")
    assert [name for name, _ in engine.calls] == ["encode", "forward", "encode"]
    error = refusal(both, inputs(3), "decode")
    assert error.code == "FER-INP-004" and "'decode'; the bundle has: encode, forward" in error.message
    unclear = refusal(Session(engine, {"prefill": SIGNATURE, "decode": SIGNATURE}), inputs(3))
    assert "prefill, decode" in unclear.message


def test_leaving_the_block_closes_the_engine() -> None:
    engine = Numpy()
    with Session(engine, {"forward": SIGNATURE}) as session:
        assert not engine.closed and session.engine is engine
    assert engine.closed


def test_every_target_has_an_engine() -> None:
    assert set(ENGINES) == set(TARGETS)
    for home in ENGINES.values():
        module, _, name = home.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(session_module.ENGINES, "onnx", "ferrule_no_such_engine:open_engine")
    with pytest.raises(TargetError, match="'onnx' is not installed") as caught:
        open_program(tmp_path / "x.onnx", "onnx", {"forward": SIGNATURE})
    assert caught.value.code == "FER-TGT-002" and "ferrule[onnx]" in caught.value.hint
