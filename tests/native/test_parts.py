"""What a program uses of the native library, which the build options FERRULE_OPS and FERRULE_KERNELS are made of."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

_C = pytest.importorskip("ferrule.runtime._C")
torch = pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
OPS = sorted((ROOT / "csrc" / "executor" / "ops").glob("*.cpp"))
KERNELS = set(re.findall(r"^FERRULE_KERNEL\((\w+),", (ROOT / "csrc/kernels/table.inc").read_text(), re.MULTILINE))


def write_program(path: Path, nodes: list[dict[str, Any]]) -> Path:
    from ferrule.converters.native_file import write_program

    entry = {
        "name": "forward",
        "dims": [],
        "inputs": [{"name": "x", "dtype": "float32", "shape": [2, 4]}],
        "nodes": nodes,
        "outputs": [{"name": "y", "value": len(nodes)}],
    }
    tensors = {
        "codes": torch.arange(-12, 12, dtype=torch.int8).reshape(6, 4),
        "scales": torch.full((6,), 0.1),
        "weight": torch.ones(6, 4),
    }
    write_program(path, {"entries": [entry], "states": []}, tensors, {})
    return path


LINEAR = {"op": "linear", "in": [0], "kind": "float32", "weight": "weight", "input": "float32"}
CODED = {"op": "linear", "in": [0], "kind": "affine", "bits": 8, "codes": "codes", "scales": "scales"}


@pytest.mark.parametrize(
    ("nodes", "ops", "kernels"),
    [
        ([LINEAR], ["linear"], ["gemm_f32"]),
        ([LINEAR, {"op": "softmax", "in": [1]}], ["linear", "softmax"], ["gemm_f32", "softmax"]),
        ([CODED | {"input": "float32"}], ["linear"], ["gemm_f32_i8"]),
        ([CODED | {"input": "dynamic8"}], ["linear"], ["gemm_i8", "quantize_rows"]),
        ([{"op": "binary", "in": [0, 0], "fn": "add"}], ["binary"], []),
    ],
)
def test_a_program_tells_what_it_uses(
    nodes: list[dict[str, Any]], ops: list[str], kernels: list[str], tmp_path: Path
) -> None:
    program = _C.Program(str(write_program(tmp_path / "p.safetensors", nodes)))
    assert program.parts == {"ops": ops, "kernels": kernels}
    assert set(kernels) <= KERNELS


def test_the_options_are_for_all_programs_together(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("native_parts", ROOT / "tools" / "native_parts.py")
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    first = write_program(tmp_path / "a.safetensors", [LINEAR])
    second = write_program(tmp_path / "b.safetensors", [{"op": "softmax", "in": [0]}])
    assert tool.find_program(first) == first
    assert tool.cmake_options([first, second]) == ["-DFERRULE_OPS=linear;softmax", "-DFERRULE_KERNELS=gemm_f32;softmax"]


@pytest.mark.parametrize("path", OPS, ids=lambda path: str(path.stem))
def test_an_op_names_every_kernel_that_it_runs(path: Path) -> None:
    """Else a build without that kernel would open the program and fail while it runs."""
    text = path.read_text(encoding="utf-8")
    ran = set(re.findall(r"require_ok\(ferrule_(\w+)\(&args", text)) - {"linear", "conv"}  # packed.cpp names theirs
    named = set(re.findall(r'use_kernel\("(\w+)"\)', text))
    assert named <= KERNELS
    for kernel in ran:
        assert any(name == kernel or name.startswith(f"{kernel}_") for name in named), kernel
