"""The native module as a whole: its stub, its table, the instruction sets of this machine."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ferrule.runtime import _C

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {"attention_": "attention", "gemm_": "linear", "token_": "tokens"}
"""Kernels that one op chooses from, and the name of its tests."""


def stub_nodes() -> dict[str, ast.stmt]:
    """Public names that runtime/_C.pyi defines, with their nodes; those of methods as `Class.method`."""
    tree = ast.parse((ROOT / "runtime" / "_C.pyi").read_text(encoding="utf-8"))
    nodes: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            nodes[node.name] = node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            nodes |= {f"{node.name}.{each.name}": each for each in node.body if isinstance(each, ast.FunctionDef)}
    return nodes


def runtime_signature(name: str) -> ast.arguments | None:
    """Parameters as pybind11 wrote them into the docstring; None for a property."""
    found: object = _C
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    if isinstance(found, property):
        return None
    if isinstance(found, staticmethod):
        found = found.__func__
    first_line = (getattr(found, "__doc__", "") or "").splitlines()[0]
    function = ast.parse(f"def {first_line}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    return function.args


def test_stub_names_exactly_what_the_module_exports() -> None:
    exported = {name for name in vars(_C) if not name.startswith("_")}
    assert {name for name in stub_nodes() if "." not in name} == exported


@pytest.mark.parametrize(
    "name", [n for n, node in stub_nodes().items() if isinstance(node, ast.FunctionDef) and "__" not in n]
)
def test_stub_has_the_parameters_of_the_module(name: str) -> None:
    node = stub_nodes()[name]
    assert isinstance(node, ast.FunctionDef) and ast.get_docstring(node), name
    found = runtime_signature(name)
    if found is None:
        assert [ast.unparse(each) for each in node.decorator_list] == ["property"]
        return
    wanted = node.args
    assert [a.arg for a in wanted.args] == [a.arg for a in found.args]
    assert [a.arg for a in wanted.kwonlyargs] == [a.arg for a in found.kwonlyargs]
    for ours, theirs in ((wanted.defaults, found.defaults), (wanted.kw_defaults, found.kw_defaults)):
        assert [d and ast.literal_eval(d) for d in ours] == [d and ast.literal_eval(d) for d in theirs]


@pytest.mark.slow
def test_stubtest_finds_no_fault(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "links.py")], check=True)
    command = [sys.executable, "-m", "mypy.stubtest", "ferrule.runtime._C", "--concise"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / ".links"), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    # pybind11's classes have a metaclass of its own, which no stub can name.
    # Classes without a constructor have one there that raises.
    known = ("metaclass differs", "PackedLinear.__init__ is inconsistent, stub does not have *args")
    faults = [line for line in done.stdout.splitlines() if not any(text in line for text in known)]
    assert not [line for line in faults if line.startswith("ferrule")], done.stdout
    assert done.returncode == 0 or "metaclass differs" in done.stdout, done.stdout + done.stderr


def test_every_op_has_a_scalar_kernel_and_every_row_its_file() -> None:
    rows = _C.kernels()
    assert len(rows) == len(set(rows)) > 0
    for op, isa in rows:
        assert (op, "scalar") in rows
        folders = {op, *(group for start, group in GROUPS.items() if op.startswith(start))}
        assert any((ROOT / "csrc" / "kernels" / folder / f"{isa}.cpp").is_file() for folder in folders)


def test_every_op_has_a_test() -> None:
    for op in {op for op, _ in _C.kernels()}:
        name = next((group for start, group in GROUPS.items() if op.startswith(start)), op)
        assert (ROOT / "tests" / "native" / f"test_{name}.py").is_file()


def test_scalar_is_always_usable() -> None:
    assert _C.isas()[0] == "scalar"
    assert _C.active_isa() in _C.isas()


def run_with_isa(value: str) -> subprocess.CompletedProcess[str]:
    code = "from ferrule.runtime import _C; print(_C.active_isa())"
    environment = {**os.environ, "FERRULE_ISA": value}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_the_variable_chooses_the_instruction_set() -> None:
    for isa in _C.isas():
        assert run_with_isa(isa).stdout.strip() == isa
    assert run_with_isa("").stdout.strip() == _C.isas()[-1]


def test_a_wrong_variable_is_refused() -> None:
    done = run_with_isa("mmx")
    assert done.returncode != 0 and "KernelValueError: FER-KER-006" in done.stderr and "scalar" in done.stderr


@pytest.mark.parametrize("isa", ["mmx", "", "AVX2", "neon"])
def test_a_wrong_isa_is_refused(isa: str) -> None:
    if isa in _C.isas():
        pytest.skip("this processor has it")
    with pytest.raises(_C.KernelValueError, match="^FER-KER-005 isa"):
        _C.peak("fma", 0, isa=isa)
    with pytest.raises(_C.KernelTypeError, match="^FER-KER-001 isa"):
        _C.peak("fma", 0, isa=3)  # type: ignore[arg-type]
