"""The delegation table and the stored weights of a .pte file, read from the file and joined with the graph."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ferrule.program import OpRow

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

    from ferrule.converters.pte import Pte

__all__ = ["delegation_rows", "source_line"]

PORTABLE, XNNPACK = "cpu:portable", "cpu:xnnpack"
_OURS = ("/ferrule/", "/torch/", "/executorch/", "/torchao/", "<")

# Kernels of the runtime itself: they move shapes, not data.
_RUNTIME_KERNELS = ("executorch_prim::", "aten::sym_size")


def delegation_rows(pte: Pte, edges: Mapping[str, ExportedProgram], reasons: Mapping[str, str]) -> tuple[OpRow, ...]:
    """A row for every kind of op, unit, reason and source line.

    Which ops a delegate holds follows from the graph that it was made from; that the delegate is called, and what runs
    beside it, stands in the file's instruction lists: hence the basis `measured`.
    """
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for method in pte.methods:
        graph = edges[method.name].graph_module
        calls = sum(kind == "delegate" for kind, _ in method.instructions)
        delegates = list(_delegates(graph))
        assert calls == len(delegates), f"{calls} delegate calls in the file, {len(delegates)} in the graph"
        for delegate in delegates:
            for node in delegate.original_module.graph_module.graph.nodes:
                if node.op == "call_function" and "getitem" not in str(node.target):
                    counts[_op_name(node), XNNPACK, "", source_line(node)] += 1
        counts.update(_portable(graph, [name for kind, name in method.instructions if kind == "kernel"], reasons))
    rows = (OpRow(op, unit, reason, n, source, "measured") for (op, unit, reason, source), n in counts.items())
    return tuple(sorted(rows, key=lambda r: (r.unit, r.op, r.source, r.reason)))


def source_line(node: fx.Node) -> str:
    """`folder/file.py:line` of the innermost frame that is not the toolkits' own, or an empty string."""
    lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    for line in reversed(lines):
        if line.startswith('File "'):
            path, _, rest = line[6:].partition('", line ')
            if not any(part in path for part in _OURS):
                return f"{'/'.join(path.split('/')[-2:])}:{rest.split(',')[0]}"
    return ""


def _delegates(graph: fx.GraphModule) -> Iterator[Any]:
    for node in graph.graph.nodes:
        if node.op == "call_function" and "call_delegate" in str(node.target):
            yield getattr(graph, node.args[0].target)


def _portable(
    graph: fx.GraphModule, kernels: list[str], reasons: Mapping[str, str]
) -> Iterator[tuple[str, str, str, str]]:
    """Kernels in the order of the file, each with the graph's node of the same name and rank for reason and line."""
    nodes: dict[str, list[fx.Node]] = defaultdict(list)
    for node in graph.graph.nodes:
        if node.op == "call_function" and "getitem" not in str(node.target):
            nodes[_op_name(node).split(".")[1]].append(node)
    for kernel in kernels:
        space, _, rest = kernel.partition("::")
        base = rest.split(".")[0]
        if kernel.startswith(_RUNTIME_KERNELS) and base != "et_view":
            yield f"{space}.{base}", PORTABLE, "reads or computes a length, not tensor data", ""
            continue
        known = nodes["view_copy" if base == "et_view" else base]
        node = known.pop(0) if known else None
        yield f"{space}.{base}", PORTABLE, _reason(node, base, reasons), "" if node is None else source_line(node)


def _reason(node: fx.Node | None, base: str, reasons: Mapping[str, str]) -> str:
    if node is None:
        return "inserted by ExecuTorch"
    value = node.meta.get("val")
    dtypes = {str(v.dtype).removeprefix("torch.") for v in _tensors([n.meta.get("val") for n in node.all_input_nodes])}
    dtypes |= {str(v.dtype).removeprefix("torch.") for v in _tensors([value])}
    others = sorted(dtypes - {"float32", "float16"})
    reason = reasons.get(node.name, "")
    if others and (not reason or "dtype" in reason):
        return f"XNNPACK computes in float32, this op also handles {', '.join(others)}"
    return reason or f"XNNPACK has no {base}, or not in this form"


def _tensors(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _tensors(list(value))
        elif hasattr(value, "dtype"):
            yield value


def _op_name(node: fx.Node) -> str:
    """`aten.add` from whichever way the target spells it."""
    target: Any = node.target
    name = target.__name__ if hasattr(target, "__name__") else str(target)
    parts = str(name).split(".")
    return ".".join(parts[:2]) if len(parts) > 1 else f"python.{name}"
