"""Native programs as files: what is damaged or not valid is refused with a code, never run."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ferrule.converters.native_file import GRAPH, write_program
from ferrule.runtime import _C

TENSORS = {"w": torch.arange(12, dtype=torch.float32).reshape(3, 4), "zero": torch.zeros(2, 4)}


def graph(nodes: list[dict[str, Any]], value: int, **more: Any) -> dict[str, Any]:
    """One entry point with one input x, float32 [rows, 4], rows 1 to 64."""
    entry = {
        "name": "forward",
        "dims": [{"name": "rows", "min": 1, "max": 64}],
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["rows", 4]}],
        "nodes": nodes,
        "outputs": [{"name": "y", "value": value}],
        **more,
    }
    return {"entries": [entry], "states": []}


def linear(**more: Any) -> dict[str, Any]:
    return {"op": "linear", "in": [0], "kind": "float32", "weight": "w", "input": "float32", "source": "m.py:3", **more}


def save(folder: Path, made: dict[str, Any]) -> Path:
    write_program(folder / "p.safetensors", made, TENSORS, {})
    return folder / "p.safetensors"


def open_graph(folder: Path, nodes: list[dict[str, Any]], value: int = 1, **more: Any) -> Any:
    return _C.Program(str(save(folder, graph(nodes, value, **more))))


def rows(count: int) -> Any:
    return np.random.default_rng(count).standard_normal((count, 4), np.float32)


def test_runs_at_every_length_and_tells_its_ops(tmp_path: Path) -> None:
    program = open_graph(tmp_path, [linear(), {"op": "unary", "fn": "neg", "in": [1]}], 2)
    assert program.entries == {"forward": (["x"], ["y"])}
    for count in (1, 7, 64, 7, *range(1, 20)):
        x = rows(count)
        (y,) = program.run("forward", [x])
        np.testing.assert_allclose(y, -(x @ TENSORS["w"].numpy().T), rtol=1e-5, atol=1e-5)
    outputs, steps, whole = program.profile("forward", [rows(5)])
    assert [(op, place) for op, place, _ in steps] == [("linear", "linear (m.py:3)"), ("unary", "unary")]
    assert outputs[0].shape == (5, 3) and all(seconds >= 0 for *_, seconds in steps)
    assert sum(seconds for *_, seconds in steps) < whole
    memory = program.memory("forward")
    assert memory["live"] <= memory["values"] <= 1.1 * memory["live"]


def test_outputs_are_arrays_of_their_own(tmp_path: Path) -> None:
    """Where values share memory, too: a view of an output, one value under two names, an input passed through."""
    nodes = [linear(), {"op": "unary", "fn": "neg", "in": [1]}, {"op": "reshape", "in": [2], "shape": [-1]}]
    outputs = [{"name": name, "value": value} for name, value in {"y": 2, "flat": 3, "again": 2, "x": 0}.items()]
    program, x = open_graph(tmp_path, nodes, outputs=outputs), rows(5)
    y, flat, again, same = kept = program.run("forward", [x])
    np.testing.assert_allclose(y, -(x @ TENSORS["w"].numpy().T), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(flat, y.reshape(-1))
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(same, x)
    before = [array.copy() for array in kept]
    program.run("forward", [rows(5) + 1])
    for array, copy in zip(kept, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    arrays = [*kept, x]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


@pytest.mark.parametrize("threads", [1, 3])
def test_two_lengths_share_one_memory(tmp_path: Path, threads: int) -> None:
    program = _C.Program(str(save(tmp_path, graph([linear()], 1))), threads)
    long, short = rows(64), rows(3)
    first = program.run("forward", [long])[0]
    program.run("forward", [short])
    np.testing.assert_array_equal(program.run("forward", [long])[0], first)


def test_a_state_keeps_what_an_update_put_there(tmp_path: Path) -> None:
    made = graph([{"op": "binary", "fn": "add", "in": ["@sum", 0]}], 1, updates=[["sum", 1]])
    made["states"] = [{"name": "sum", "initial": "zero"}]
    program = _C.Program(str(save(tmp_path, made)))
    x = rows(2)
    for turn in range(1, 4):
        np.testing.assert_allclose(program.run("forward", [x])[0], turn * x, rtol=1e-6)
    program.reset()
    np.testing.assert_allclose(program.run("forward", [x])[0], x, rtol=1e-6)
    made["entries"][0]["nodes"] = [{"op": "concat", "in": ["@sum", 0], "axis": 0}]
    program = _C.Program(str(save(tmp_path, made)))
    with pytest.raises(_C.ProgramError, match="^FER-NAT-004 State sum"):
        program.run("forward", [x])


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    content = save(tmp_path, graph([linear()], 1)).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size in {*range(0, len(content), 7), len(content) - 1}:
        cut.write_bytes(content[:size])
        with pytest.raises(_C.ProgramError, match="^FER-NAT-00[12] "):
            _C.Program(str(cut))
    with pytest.raises(_C.ProgramError, match="^FER-NAT-001 .*cannot be opened"):
        _C.Program(str(tmp_path / "absent"))


def test_flipped_bits_are_refused_or_change_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, graph([linear()], 1))
    content, x = path.read_bytes(), rows(4)
    wanted = _C.Program(str(path)).run("forward", [x])[0]
    flipped = tmp_path / "flipped.safetensors"
    refused = 0
    for bit in np.random.default_rng(0).permutation(8 * len(content))[:1500]:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        flipped.write_bytes(changed)
        try:
            program = _C.Program(str(flipped))
        except _C.ProgramError as error:
            assert str(error).startswith("FER-NAT-00")
            refused += 1
        else:  # spaces at the header's end, or an array that nothing reads
            np.testing.assert_array_equal(program.run("forward", [x])[0], wanted)
    assert refused > 1000


CODES = {"op": "quantize_kv", "in": [0], "bits": 8, "group": 0, "clip": 1, "results": 3}
CACHED = {"op": "attention_quantized", "in": [0] * 5, "bits": 8, "group": 0, "scale": 1}
MATCHED = {"op": "token_match", "in": [0], "heads": 1, "kv_heads": 1, "layout": "bshd", "protected": 0}

WRONG: list[tuple[list[dict[str, Any]], int, str]] = [
    ([{"op": "magic", "in": [0]}], 1, "003 magic: this version has no such op"),
    ([linear(weight="v")], 1, "003 The program has no array v"),
    ([linear(weight=3)], 1, "003 linear"),
    ([linear(activation="tanh")], 1, "003 linear"),
    ([linear()], 2, "003 .*value 2 is used before it is made"),
    ([linear(**{"in": [1]})], 1, "003 .*value 1 is used before it is made"),
    ([linear(**{"in": [-1]})], 1, "003 .*value -1 is used before it is made"),
    ([linear(results=100)], 1, "003 .*too many results"),
    ([{"op": "reshape", "in": [0], "shape": ["cols"]}], 1, "003 .*no expression"),
    ([{"op": "reshape", "in": [0], "shape": ["rows", "+"]}], 1, "003 .*no expression"),
    ([{"op": "permute", "in": [0], "axes": [0, 0]}], 1, "00[34] permute"),
    ([{"op": "unary", "in": [0], "fn": "launch"}], 1, "003 unary"),
    ([CODES | {"bits": 3}], 1, "003 quantize_kv"),
    ([CODES | {"group": 8}], 1, "003 quantize_kv"),
    ([CODES | {"clip": 2}], 1, "003 quantize_kv"),
    ([{k: v for k, v in CODES.items() if k != "clip"}], 1, "003 quantize_kv: it lacks `clip`"),
    ([CODES | {"results": 2}], 1, "00[34] quantize_kv"),
    ([CACHED | {"scale": "inf"}], 1, "003 attention_quantized"),
    ([CACHED | {"bits": 4}], 1, "003 attention_quantized: .*need offsets"),
    ([CACHED | {"key_ends": 1}], 1, "003 attention_quantized: `key_ends` is neither true nor false"),
    ([MATCHED | {"layout": "sbhd"}], 1, "003 token_match"),
    ([MATCHED | {"count": ["rows", "+"]}], 1, "003 .*no expression"),
]


@pytest.mark.parametrize(("nodes", "value", "message"), WRONG)
def test_graphs_that_are_not_valid_are_refused(
    tmp_path: Path, nodes: list[dict[str, Any]], value: int, message: str
) -> None:
    with pytest.raises(_C.ProgramError, match=f"^FER-NAT-{message}"):
        open_graph(tmp_path, nodes, value).run("forward", [rows(2)])


MISFITS: list[tuple[list[dict[str, Any]], str]] = [
    ([{"op": "reshape", "in": [0], "shape": [5, -1]}], "004 reshape"),
    ([{"op": "concat", "in": [0, "w"], "axis": 1}], "004 concat"),
    ([{"op": "matmul", "in": [0, 0]}], "004 matmul"),
    ([{"op": "expand", "in": [0], "shape": [1 << 40, 1 << 40, 2, 4]}], "00[45] "),
    ([{"op": "fill", "in": [], "shape": [["rows", 1 << 62, "*"]], "value": 0, "dtype": "float32"}], "005 "),
    ([{"op": "fill", "in": [], "shape": [["rows", 70, "-"]], "value": 0, "dtype": "float32"}], "00[45] "),
    ([{"op": "softmax", "in": []}], "00[34] softmax"),
    ([linear(**{"in": ["zero", 0]})], "00[34] linear"),
    ([CODES], "004 quantize_kv"),
    ([CACHED], "004 attention_quantized"),
    ([CACHED | {"in": [0] * 6}], "004 attention_quantized"),
    ([MATCHED], "004 token_match"),
]


@pytest.mark.parametrize(("nodes", "message"), MISFITS)
def test_ops_whose_inputs_do_not_fit_are_refused(tmp_path: Path, nodes: list[dict[str, Any]], message: str) -> None:
    program = open_graph(tmp_path, nodes)
    for _ in range(2):  # the second time as the first: nothing half-made is kept
        with pytest.raises(_C.ProgramError, match=f"^FER-NAT-{message}"):
            program.run("forward", [rows(2)])


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    program = open_graph(tmp_path, [linear()])
    for inputs, message in (
        ([], "takes 1 inputs, not 0"),
        ([rows(2).astype(np.int32)], "is int32 of 2 axes; float32 of 2 is needed"),
        ([rows(2)[0]], "is float32 of 1 axes"),
        ([rows(2)[:, :3].copy()], r"has shape \[2, 3\]; \[2, 4\] is needed"),
        ([np.zeros((0, 4), np.float32)], "has length 0; 1 to 64 are allowed"),
        ([np.zeros((65, 4), np.float32)], "has length 65"),
    ):
        with pytest.raises(_C.ProgramError, match=f"^FER-NAT-004 .*{message}"):
            program.run("forward", inputs)
    with pytest.raises(_C.ProgramError, match="^FER-NAT-004 .*no entry point backward"):
        program.run("backward", [rows(1)])
    with pytest.raises(_C.KernelValueError, match="^FER-KER-003"):
        program.run("forward", [np.ones((4, 4), np.float32)[::2]])


def test_an_index_beyond_its_table_is_refused(tmp_path: Path) -> None:
    made = graph([{"op": "embedding", "in": [0], "kind": "float32", "weight": "w"}], 1)
    made["entries"][0]["inputs"] = [{"name": "x", "dtype": "int64", "shape": ["rows"]}]
    program = _C.Program(str(save(tmp_path, made)))
    np.testing.assert_array_equal(program.run("forward", [np.array([2, 0])])[0], TENSORS["w"][[2, 0]].numpy())
    for index in (3, -1, 2**62):
        with pytest.raises(_C.ProgramError, match="^FER-NAT-008"):
            program.run("forward", [np.array([0, index])])


def test_a_second_thread_is_refused_and_closing_waits(tmp_path: Path) -> None:
    nodes = [{"op": "matmul", "in": ["big", "big"]}, {"op": "binary", "fn": "add", "in": [0, "w0"]}]
    tensors = {"big": torch.randn(1024, 1024), "w0": torch.zeros(1, 4)}
    write_program(tmp_path / "p.safetensors", graph(nodes, 2), tensors, {})
    program = _C.Program(str(tmp_path / "p.safetensors"))
    refused: list[str] = []

    def run_often() -> None:
        for _ in range(40):
            try:
                program.run("forward", [rows(2)])
            except _C.ProgramError as error:
                refused.append(str(error))

    workers = [threading.Thread(target=run_often) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert refused and all(text.startswith("FER-NAT-007 The program is in use") for text in refused)
    program.close()
    with pytest.raises(_C.ProgramError, match="^FER-NAT-007 The program is closed"):
        program.run("forward", [rows(2)])


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    from safetensors import safe_open

    made = graph([linear()], 1)
    with safe_open(save(tmp_path, made), "pt") as file:
        assert json.loads(bytes(file.get_tensor(GRAPH).tolist())) == made
        assert torch.equal(file.get_tensor("w"), TENSORS["w"])
