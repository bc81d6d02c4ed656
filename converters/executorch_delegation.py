"""The delegation table of a .pte file: what the file calls, joined with the graph that it was made from.

The graph is looked at before ExecuTorch plans memory, which rewrites it in place; the file afterwards.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ferrule.converters.kernel_layers import REASON, UNIT
from ferrule.converters.source_lines import whereabouts
from ferrule.program import OpRow

if TYPE_CHECKING:
    from torch import fx

    from ferrule.converters.pte import Pte

__all__ = ["Placement", "delegation_rows", "look_at"]

PORTABLE, XNNPACK = "cpu:portable", "cpu:xnnpack"

# They describe how a neighbour's operand is stored; XNNPACK's graph has no op for them.
_FOLDED = (
    "choose_qparams_per_token_asymmetric",
    "dequantize_per_token",
    "dequantize_per_channel",
    "dequantize_affine",
    "_clone_dim_order",
)


@dataclass(frozen=True)
class Placement:
    """Ops of one method: (op, source line) inside delegates, (op, reason, source line) beside them, in graph order."""

    delegates: int
    inside: tuple[tuple[str, str], ...]
    beside: tuple[tuple[str, str, str], ...]


def look_at(graph: fx.GraphModule, rules: Collection[str], reasons: Mapping[str, str]) -> Placement:
    """Read a partitioned graph; rules: ops (`add.Tensor`) that the partitioner knows; reasons: node name -> why not."""
    delegates = [getattr(graph, n.args[0].target) for n in _ops(graph) if _is_delegate(n)]
    inside = [
        (_op_name(node), whereabouts(node))
        for delegate in delegates
        for node in _ops(delegate.original_module.graph_module)
        if _op_name(node).split(".")[1] not in _FOLDED
    ]
    beside = [(_op_name(n), _reason(n, rules, reasons), whereabouts(n)) for n in _ops(graph) if not _is_delegate(n)]
    return Placement(len(delegates), tuple(inside), tuple(beside))


def delegation_rows(pte: Pte, placements: Mapping[str, Placement]) -> tuple[OpRow, ...]:
    """A row for every kind of op, unit, reason and source line.

    That a delegate is called, and which kernels run beside it, stands in the file: hence the basis `measured`.
    Which ops a delegate holds is read off the graph that it was made from.
    """
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for method in pte.methods:
        placement = placements[method.name]
        calls = sum(kind == "delegate" for kind, _ in method.instructions)
        assert calls == placement.delegates, f"{calls} delegate calls in the file, {placement.delegates} in the graph"
        counts.update((op, XNNPACK, "", source) for op, source in placement.inside)
        counts.update(_portable([name for kind, name in method.instructions if kind == "kernel"], placement))
    rows = (OpRow(op, unit, reason, n, source, "measured") for (op, unit, reason, source), n in counts.items())
    return tuple(sorted(rows, key=lambda r: (r.unit, r.op, r.source, r.reason)))


def _ops(graph: fx.GraphModule) -> list[fx.Node]:
    return [n for n in graph.graph.nodes if n.op == "call_function" and "getitem" not in str(n.target)]


def _is_delegate(node: fx.Node) -> bool:
    return "call_delegate" in str(node.target)


def _portable(kernels: list[str], placement: Placement) -> Iterator[tuple[str, str, str, str]]:
    """Kernels in the order of the file, each with the graph's op of the same name and rank for reason and line."""
    known: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for entry in placement.beside:
        known[entry[0].split(".")[1]].append(entry)
    for kernel in kernels:
        space, _, rest = kernel.partition("::")
        name = rest.split(".")[0]
        matches = known["view_copy" if name == "et_view" else name]
        if space == "ferrule":
            yield f"{space}.{name}", UNIT, REASON, matches.pop(0)[2]
        elif matches:
            op, reason, source = matches.pop(0)
            yield f"{space}.{name}", PORTABLE, reason, source
        else:
            yield f"{space}.{name}", PORTABLE, "inserted by ExecuTorch for lengths or memory", ""


def _reason(node: fx.Node, rules: Collection[str], reasons: Mapping[str, str]) -> str:
    if next(_tensors([node.meta.get("val")]), None) is None:
        return "computes a length, not tensor data"
    values = [n.meta.get("val") for n in node.all_input_nodes] + [node.meta.get("val")]
    others = sorted({str(t.dtype).removeprefix("torch.") for t in _tensors(values)} - {"float32", "float16"})
    if others:
        return f"XNNPACK computes in float32; this op handles {', '.join(others)}"
    reason = reasons.get(node.name, "")
    if reason == "invalid dtype" or "SymInt" in reason or "ymbolic" in reason:
        return "XNNPACK takes no length here that is known at run time only"
    name = _full_name(node).partition(".")[2]
    if not reason and name not in rules:
        return f"ExecuTorch has no XNNPACK rule for {name}"
    return reason or "a delegate with it would wait for its own output"


def _tensors(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _tensors(list(value))
        elif hasattr(value, "dtype"):
            yield value


def _op_name(node: fx.Node) -> str:
    """`aten.add` for `aten.add.Tensor`."""
    return ".".join(_full_name(node).split(".")[:2])


def _full_name(node: fx.Node) -> str:
    """`aten.add.Tensor` from whichever way the target spells it; `python.mul` for what is no op of torch."""
    plain, name = str(node.target), str(getattr(node.target, "__name__", node.target))
    if plain.startswith("aten."):
        return plain
    return name if "." in name else f"python.{name}"
