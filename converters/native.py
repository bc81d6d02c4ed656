"""native: one safetensors file for Ferrule's own executor (csrc/executor), weights in our codecs as they are.

The captured graph becomes a flat list of ops (native_ops), which are joined to those that have a kernel
(native_fuse); ops that the executor lacks are decomposed by torch, or refused by name and source line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.converters.decompositions import functionalize, simplify
from ferrule.converters.native_attention import multiply_codes
from ferrule.converters.native_codecs import hold_codecs
from ferrule.converters.native_file import DTYPES, write_program
from ferrule.converters.native_fuse import fuse
from ferrule.converters.native_graph import CONSTANT, INPUT, STATE, Extent, Graph, Names, Node, Unsupported
from ferrule.converters.native_ops import OPS
from ferrule.converters.native_weights import find_roles, stored_weights
from ferrule.converters.source_lines import place, whereabouts
from ferrule.errors import LoweringError
from ferrule.model import Captured
from ferrule.program import OpRow, Program

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from ferrule.device_profiles import DeviceProfile

__all__ = ["FILE", "Lowering", "lower"]

FILE = "model.safetensors"
_UNIT = "cpu:ferrule"


def lower(graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False) -> Program:
    """Write `model.safetensors` with all entry points.

    The device makes no difference: weights are packed for its instruction set when the file is opened. Raises
    LoweringError: FER-LOW-001 an op that the executor lacks, FER-LOW-002 a codec that it has no kernel for.
    """
    names, entries, lowered = Names(), [], []
    states: dict[str, Any] = {}
    rows: dict[tuple[str, str], int] = {}
    notes: dict[str, None] = {}
    for name, graph_of_torch in graphs.items():
        captured = hold_codecs(graph_of_torch, expand, notes)
        low = Lowering(_decompose(captured.program), captured)
        graph = low.graph()
        fuse(graph)
        multiply_codes(graph, notes)
        names.symbols = low.symbols
        dims = [{"name": d.name, "min": d.min, "max": d.max} for d in captured.signature.dims.values()]
        try:
            entries.append(graph.to_json(name, dims, names))
        except ValueError as error:
            raise LoweringError(
                "FER-LOW-001", f"Entry point {name!r} has {error}, which native programs lack."
            ) from error
        lowered.append(graph)
        _add_states(states, graph)
        for node in graph.nodes():
            if node.is_computed:
                key = (node.op, node.source)
                rows[key] = rows.get(key, 0) + 1
    told = [{"name": name, "initial": names.of_tensor(tensor)} for name, tensor in states.items()]
    roles = find_roles(lowered, names)
    write_program(folder / FILE, {"entries": entries, "states": told}, names.tensors, roles)
    return Program(
        target="native",
        main=FILE,
        entry_points={name: graph.signature for name, graph in graphs.items()},
        delegation=tuple(
            OpRow(op, _UNIT, "our kernel", count, source, "measured") for (op, source), count in sorted(rows.items())
        ),
        weights=stored_weights(names.tensors, roles),
        notes=tuple(notes),
        tools=_tools(),
    )


def _add_states(states: dict[str, Any], graph: Graph) -> None:
    """Entry points share the states of one name. Raises LoweringError FER-LOW-001 where these start differently."""
    import torch

    for node in graph.states():
        first = states.setdefault(node.name, node.tensor)
        if not torch.equal(first, node.tensor):
            raise LoweringError(
                "FER-LOW-001",
                f"Buffer {node.name!r} is another one in each of two entry points, and both write to it.",
                "Give the buffers of the two modules different names, or the same shape and first values.",
            )


def _decompose(program: ExportedProgram) -> ExportedProgram:
    """Ops that the table lacks, in terms of more common ones, as far as torch knows how."""
    from torch._decomp import core_aten_decompositions

    known = core_aten_decompositions()
    if any(n.op == "call_function" and _writes(n) for n in program.graph.nodes):
        program = functionalize(program)
    for _ in range(4):
        calls = [n for n in program.graph.nodes if n.op == "call_function" and not _is_length(n.meta.get("val"))]
        table = {n.target: known[n.target] for n in calls if _name(n) not in OPS and n.target in known}
        if not table:
            break
        program = simplify(program, table)
    return program


def _is_length(value: Any) -> bool:
    """Whether an op's result is a number that depends on lengths, which no op of the program computes."""
    return value is not None and not hasattr(value, "shape") and not isinstance(value, list | tuple)


def _writes(fx: Any) -> bool:
    """Whether the op writes to one of its arguments."""
    return bool(getattr(getattr(fx.target, "_schema", None), "is_mutable", False))


def _name(fx: Any) -> str:
    """`aten.add`, for every overload."""
    target = fx.target
    if hasattr(target, "_schema"):
        return str(target._schema.name).replace("::", ".")
    return str(getattr(target, "__name__", target))


class Lowering:
    """The state of one entry point's lowering: what became of each node of torch's graph."""

    def __init__(self, program: ExportedProgram, captured: Captured) -> None:
        self.program = program
        self.captured = captured
        self.symbols: dict[Any, str] = {}
        self._made: dict[Any, Any] = {}
        self._source = ""
        self._constants: dict[int, tuple[Tensor, Node]] = {}  # with the tensor, so that no other gets its id
        self._states: dict[str, Node] = {}

    def graph(self) -> Graph:
        """Every node in turn. Raises LoweringError FER-LOW-001."""
        graph = Graph()
        signature = self.program.graph_signature
        names = iter(spec for spec in self.captured.signature.inputs)
        for fx in self.program.graph.nodes:
            if fx.op == "placeholder":
                self._made[fx] = self._placeholder(fx, graph, names)
            elif fx.op == "call_function":
                self._made[fx] = self._call(fx)
            elif fx.op == "output":
                results = [self._read(each) for each in fx.args[0]]
        mutated = {**signature.buffers_to_mutate}
        outputs = []
        for spec, node in zip(signature.output_specs, results, strict=True):
            if spec.kind.name == "BUFFER_MUTATION":
                state = self._state(mutated[spec.arg.name])
                graph.updates.append((state, node))
            elif spec.kind.name == "USER_OUTPUT":
                outputs.append(node)
        graph.outputs = [(s.name, n) for s, n in zip(self.captured.signature.outputs, outputs, strict=True)]
        return graph

    def _placeholder(self, fx: Any, graph: Graph, specs: Any) -> Node | None:
        signature = self.program.graph_signature
        buffers = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
        if fx.name in signature.inputs_to_parameters:
            return self.constant(self.program.state_dict[signature.inputs_to_parameters[fx.name]])
        if fx.name in buffers:
            path = buffers[fx.name]
            if path in signature.buffers_to_mutate.values():
                return self._state(path)
            return self.constant(self._tensor(path))
        if fx.name not in signature.user_inputs:  # a token that orders effects
            return None
        spec = next(specs)
        value = fx.meta["val"]
        for axis, size in zip(spec.shape, value.shape, strict=True):
            if isinstance(axis, str) and not isinstance(size, int):
                self.symbols[size.node.expr] = axis
        node = Node(INPUT, [], {}, self._dtype(value, fx), self.extents(value.shape), name=spec.name)
        graph.inputs.append(node)
        return node

    def _tensor(self, path: str) -> Tensor:
        tensor = self.program.state_dict.get(path)
        found: Tensor = self.program.constants[path] if tensor is None else tensor
        return found

    def _state(self, path: str) -> Node:
        if path not in self._states:
            node = self.constant(self._tensor(path))
            self._states[path] = Node(STATE, [], {}, node.dtype, node.shape, tensor=node.tensor, name=path)
        return self._states[path]

    def _call(self, fx: Any) -> Any:
        value = fx.meta.get("val")
        if _is_length(value):
            return getattr(getattr(value, "node", None), "expr", value)  # a length
        name = _name(fx)
        if name not in OPS:
            self._refuse(fx, "which native programs lack")
        self._source = whereabouts(fx)
        try:
            return OPS[name](self, fx, *map(self._read, fx.args), **{k: self._read(v) for k, v in self._options(fx)})
        except Unsupported as problem:
            self._refuse(fx, f"and native programs lack {problem}")

    @staticmethod
    def _options(fx: Any) -> list[tuple[str, Any]]:
        """What matters of the named arguments: layouts and devices do not."""
        return [(k, v) for k, v in fx.kwargs.items() if k not in ("layout", "device", "pin_memory", "memory_format")]

    def _refuse(self, fx: Any, why: str) -> None:
        raise LoweringError(
            "FER-LOW-001",
            f"Op {_name(fx)}{place(fx)} is used, {why}.",
            "Write it in other ops, or build for another target.",
        )

    def _read(self, argument: Any) -> Any:
        from torch import fx

        if isinstance(argument, fx.Node):
            return self._made[argument]
        if isinstance(argument, list | tuple):
            return [self._read(each) for each in argument]
        return getattr(getattr(argument, "node", None), "expr", argument)

    # What the functions of native_ops use.

    def extents(self, shape: Any) -> tuple[Extent, ...]:
        """A torch shape as lengths and expressions."""
        return tuple(size if isinstance(size, int) else size.node.expr for size in shape)

    def shape(self, fx: Any) -> tuple[Extent, ...]:
        """Of an op's result."""
        return self.extents(fx.meta["val"].shape)

    def dtype(self, fx: Any) -> str:
        """Of an op's result."""
        return self._dtype(fx.meta["val"], fx)

    def _dtype(self, value: Any, fx: Any) -> str:
        name = str(value.dtype).removeprefix("torch.")
        if name not in DTYPES:
            self._refuse(fx, f"of dtype {name}, which native programs lack")
        return name

    def make(self, op: str, inputs: list[Node], dtype: str, shape: tuple[Extent, ...], /, **attributes: Any) -> Node:
        """A node at the source line of the op that is being lowered."""
        return Node(op, inputs, attributes, dtype, shape, self._source)

    def like(self, op: str, fx: Any, inputs: list[Node], /, **attributes: Any) -> Node:
        """A node with the dtype and shape that torch gave the op's result."""
        return self.make(op, inputs, self.dtype(fx), self.shape(fx), **attributes)

    def constant(self, tensor: Tensor) -> Node:
        """A node that holds a tensor, one for each tensor."""
        name = str(tensor.dtype).removeprefix("torch.")
        if name not in DTYPES:
            raise LoweringError("FER-LOW-001", f"A weight is {name}; native programs hold {', '.join(DTYPES)}.")
        if id(tensor) not in self._constants:
            node = Node(CONSTANT, [], {}, name, tuple(tensor.shape), tensor=tensor.detach())
            self._constants[id(tensor)] = tensor, node
        return self._constants[id(tensor)][1]

    def tensor(self, node: Any) -> Any:
        """The tensor of a constant; None for None. Raises Unsupported for what is computed."""
        if node is None:
            return None
        if node.op != CONSTANT:
            raise Unsupported("weights that are computed")
        return node.tensor

    def node(self, value: Any, dtype: str) -> Node:
        """A node of the dtype; a number becomes one without axes."""
        import torch

        if isinstance(value, Node):
            return self.cast(value, dtype)
        if hasattr(value, "free_symbols"):
            number = self.make("range", [], "int64", (1,), start=value, end=value + 1, dtype="int64")
            return self.cast(self.make("reshape", [number], "int64", (), shape=[]), dtype)
        return self.constant(torch.tensor(value, dtype=getattr(torch, dtype)))

    def cast(self, node: Node, dtype: str) -> Node:
        """The node itself where it has the dtype."""
        return node if node.dtype == dtype else self.make("cast", [node], dtype, node.shape, dtype=dtype)

    def common(self, a: Node, b: Node) -> str:
        """The dtype in which two are compared."""
        return next(dtype for dtype in DTYPES if dtype in (a.dtype, b.dtype))

    def filled(self, fx: Any, value: Any) -> Node:
        """An array of one value."""
        shape, dtype = self.shape(fx), self.dtype(fx)
        if not isinstance(value, int | float):
            raise Unsupported("an array filled with a length")
        return self.make("fill", [], dtype, shape, shape=list(shape), value=value, dtype=dtype)

    def binary(self, fn: str, a: Any, b: Any, dtype: str, shape: tuple[Extent, ...]) -> Node:
        """a fn b; one of them may be a number."""
        if not isinstance(a, Node) or not isinstance(b, Node):
            is_reversed = not isinstance(a, Node)
            node, value = (b, a) if is_reversed else (a, b)
            if hasattr(value, "free_symbols"):
                return self.binary(fn, self.node(a, dtype), self.node(b, dtype), dtype, shape)
            attributes = {"fn": fn, "value": value} | ({"reversed": True} if is_reversed else {})
            return self.make("binary", [self.cast(node, dtype)], dtype, shape, **attributes)
        return self.make("binary", [self.cast(a, dtype), self.cast(b, dtype)], dtype, shape, fn=fn)


def _tools() -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package) for package in ("ferrule", "torch")}
