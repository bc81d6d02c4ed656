"""The graph of a native program while it is made: nodes with one result each, lengths as expressions, then JSON.

The form that is written is read by csrc/executor/graph.h, which also says what it may hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CONSTANT",
    "INPUT",
    "RESULT",
    "STATE",
    "Extent",
    "Graph",
    "Node",
    "Unsupported",
    "postfix",
    "same_extent",
    "same_shape",
]

INPUT, CONSTANT, STATE, RESULT = "input", "constant", "state", "result"
"""Ops of nodes that compute nothing. A result is what its input, whose attribute `results` is above 1, yields besides

its first one: the one that has the attribute `index`.
"""

Extent = Any
"""A length: an int, or a sympy expression of the symbols of dynamic axes."""


class Unsupported(Exception):
    """What of an op of torch native programs lack."""


@dataclass(eq=False)
class Node:
    """One op and its (first) result. Attributes that are tensors become arrays of the file.

    dtype: as numpy names it. tensor: of constants, and the first value of states. name: of inputs and states.
    """

    op: str
    inputs: list[Node] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    shape: tuple[Extent, ...] = ()
    source: str = ""
    tensor: Tensor | None = None
    name: str = ""

    @property
    def is_computed(self) -> bool:
        """Whether something runs for it."""
        return self.op not in (INPUT, CONSTANT, STATE, RESULT)


@dataclass
class Graph:
    """An entry point: inputs and outputs by name in order, and values that states take when it ends."""

    inputs: list[Node] = field(default_factory=list)
    outputs: list[tuple[str, Node]] = field(default_factory=list)
    updates: list[tuple[Node, Node]] = field(default_factory=list)

    def roots(self) -> Iterator[Node]:
        """What must be computed."""
        yield from (node for _, node in self.outputs)
        yield from (node for _, node in self.updates)

    def nodes(self) -> list[Node]:
        """All that the roots need, each after its inputs; dead nodes are simply not there."""
        order: list[Node] = []
        done: set[int] = set()
        stack: list[tuple[Node, bool]] = [(node, False) for node in reversed(list(self.roots()))]
        while stack:
            node, seen = stack.pop()
            if id(node) in done:
                continue
            if seen:
                done.add(id(node))
                order.append(node)
                continue
            stack.append((node, True))
            stack.extend((each, False) for each in reversed(node.inputs))
        return order

    def states(self) -> list[Node]:
        """Those that are read or written."""
        found = [*self.nodes(), *(state for state, _ in self.updates)]
        return list({id(node): node for node in found if node.op == STATE}.values())

    def uses(self) -> dict[int, int]:
        """id of a node -> how often it is read, by nodes, outputs and updates."""
        counts: dict[int, int] = {}
        for node in [*self.roots(), *(each for n in self.nodes() for each in n.inputs)]:
            counts[id(node)] = counts.get(id(node), 0) + 1
        return counts

    def exchange(self, old: Node, new: Node) -> None:
        """Have everything read `new` where it read `old`."""
        for node in self.nodes():
            if node is not new:
                node.inputs = [new if each is old else each for each in node.inputs]
        self.outputs = [(name, new if node is old else node) for name, node in self.outputs]
        self.updates = [(state, new if node is old else node) for state, node in self.updates]

    def to_json(self, name: str, dims: Sequence[Mapping[str, Any]], names: Names) -> dict[str, Any]:
        """What csrc/executor/graph.h reads; `names` gives names to tensors and symbols."""
        numbers = {id(node): number for number, node in enumerate(self.inputs)}
        nodes: list[dict[str, Any]] = []
        values = len(self.inputs)
        for node in self.nodes():
            if node.op == RESULT:
                numbers[id(node)] = numbers[id(node.inputs[0])] + node.attributes["index"]
            if not node.is_computed:
                continue
            told: dict[str, Any] = {"op": node.op, "in": [_reference(each, numbers, names) for each in node.inputs]}
            told |= {key: names.told(value) for key, value in node.attributes.items() if value is not None}
            if node.source:
                told["source"] = node.source
            numbers[id(node)] = values
            values += node.attributes.get("results", 1)
            nodes.append(told)
        for node in self.roots():
            if id(node) not in numbers:  # a constant or a state as it is
                nodes.append(
                    {"op": "reshape", "in": [_reference(node, numbers, names)], "shape": names.told(node.shape)}
                )
                numbers[id(node)] = values
                values += 1
        return {
            "name": name,
            "dims": list(dims),
            "inputs": [{"name": n.name, "dtype": n.dtype, "shape": names.told(n.shape)} for n in self.inputs],
            "nodes": nodes,
            "outputs": [{"name": label, "value": numbers[id(node)]} for label, node in self.outputs],
            "updates": [[state.name, numbers[id(node)]] for state, node in self.updates],
        }


def _reference(node: Node, numbers: Mapping[int, int], names: Names) -> int | str:
    if node.op == CONSTANT:
        assert node.tensor is not None
        return names.of_tensor(node.tensor)
    return f"@{node.name}" if node.op == STATE else numbers[id(node)]


class Names:
    """Names of the tensors of a program, one for each that differs, and of the symbols of an entry point."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._known: dict[tuple[Any, ...], tuple[Tensor, str]] = {}  # with the tensor, so that no other gets its place
        self._contents: dict[tuple[Any, ...], str] = {}
        self.symbols: dict[Any, str] = {}

    def of_tensor(self, tensor: Tensor) -> str:
        """The same name for the same content: what several entry points make of their weights is stored once."""
        key = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)
        if key not in self._known or not tensor.numel():
            self._known[key] = tensor, self._by_content(tensor)
        return self._known[key][1]

    def _by_content(self, tensor: Tensor) -> str:
        from ferrule.runtime._C import checksum

        whole = tensor.detach().contiguous()
        content = (checksum(whole.numpy()), tuple(tensor.shape), tensor.dtype)
        name = self._contents.setdefault(content, f"t{len(self.tensors)}")
        self.tensors.setdefault(name, whole)
        return name

    def told(self, value: Any) -> Any:
        """An attribute as JSON."""
        import torch

        if isinstance(value, torch.Tensor):
            return self.of_tensor(value)
        if isinstance(value, list | tuple):
            return [self.told(each) for each in value]
        if hasattr(value, "free_symbols"):
            return postfix(value, self.symbols)
        if isinstance(value, float) and not math.isfinite(value):
            return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"  # JSON has no such numbers
        return value


def postfix(extent: Extent, symbols: Mapping[Any, str]) -> Any:
    """An int as it is, a symbol as its name, anything else as a list in postfix order. Raises ValueError for others."""
    import sympy

    if isinstance(extent, int) or getattr(extent, "is_Integer", False):
        return int(extent)
    if extent in symbols:
        return symbols[extent]
    terms = [postfix(each, symbols) for each in extent.args]
    flat = [term if isinstance(term, list) else [term] for term in terms]
    if isinstance(extent, sympy.Add | sympy.Mul):
        return _chain(flat, "+" if isinstance(extent, sympy.Add) else "*")
    kind = type(extent).__name__
    if kind in ("FloorDiv", "CleanDiv"):
        return [*flat[0], *flat[1], "//"]
    if kind in ("Mod", "PythonMod"):
        return [*flat[0], *flat[0], *flat[1], "//", *flat[1], "*", "-"]
    if kind in ("Min", "Max"):
        return _chain(flat, kind.lower())
    if isinstance(extent, sympy.Pow) and getattr(extent.args[1], "is_Integer", False) and extent.args[1] > 0:
        return _chain([flat[0]] * int(extent.args[1]), "*")
    raise ValueError(f"the length {extent}")


def _chain(terms: Iterable[list[Any]], operator: str) -> list[Any]:
    first, *rest = terms
    return first + [word for term in rest for word in (*term, operator)]


def same_extent(a: Extent, b: Extent) -> bool:
    """Whether two lengths are equal for all lengths of the dynamic axes."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    return bool((a - b) == 0)


def same_shape(a: Sequence[Extent], b: Sequence[Extent]) -> bool:
    """The same of all axes."""
    return len(a) == len(b) and all(same_extent(x, y) for x, y in zip(a, b, strict=True))
