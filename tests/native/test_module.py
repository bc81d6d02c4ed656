"""The native module as a whole: its stub, its table, the instruction sets of this machine."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from ferrule.runtime import _C

ROOT = Path(__file__).resolve().parents[2]


def stub_nodes() -> dict[str, ast.stmt]:
    """Names that runtime/_C.pyi defines, with their nodes."""
    tree = ast.parse((ROOT / "runtime" / "_C.pyi").read_text(encoding="utf-8"))
    nodes: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            nodes[node.target.id] = node
    return nodes


def test_stub_names_exactly_what_the_module_exports() -> None:
    exported = {name for name in vars(_C) if not name.startswith("_")}
    assert set(stub_nodes()) == exported


@pytest.mark.parametrize("name", [n for n, node in stub_nodes().items() if isinstance(node, ast.FunctionDef)])
def test_stub_has_the_parameters_of_the_module(name: str) -> None:
    node = stub_nodes()[name]
    assert isinstance(node, ast.FunctionDef)
    documentation = inspect.getdoc(getattr(_C, name)) or ""
    first_line = documentation.splitlines()[0]  # pybind11 writes the signature there
    function = ast.parse(f"def {first_line}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    assert [a.arg for a in node.args.args] == [a.arg for a in function.args.args]
    assert [a.arg for a in node.args.kwonlyargs] == [a.arg for a in function.args.kwonlyargs]


def test_every_op_has_a_scalar_kernel_and_every_row_its_file() -> None:
    rows = _C.kernels()
    assert len(rows) == len(set(rows)) > 0
    for op, isa in rows:
        assert (op, "scalar") in rows
        assert (ROOT / "csrc" / "kernels" / op / f"{isa}.cpp").is_file()


def test_every_op_has_a_test() -> None:
    for op in {op for op, _ in _C.kernels()}:
        assert (ROOT / "tests" / "native" / f"test_{op}.py").is_file()


def test_scalar_is_always_usable() -> None:
    assert _C.isas()[0] == "scalar"
    assert _C.active_isa() in _C.isas()
