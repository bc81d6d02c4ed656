"""`FILE.pt2`: a program saved by torch.export.save, made compressible again.

An exported graph calls `linear` and `embedding` on bare parameters. Putting layers back around them gives techniques
the same modules to act on that they find in a user's own code.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ferrule.errors import SourceError
from ferrule.model import Dim, EntryPoint, Model

if TYPE_CHECKING:
    from torch import fx, nn
    from torch.export import ExportedProgram

__all__ = ["files", "load"]


def files(spec: str) -> tuple[str, list[Path]]:
    """What settles the model: the file, and its name."""
    path = Path(spec).expanduser()
    return path.name, [path]


def load(spec: str) -> Model:
    """A saved program; raises SourceError FER-SRC-002 (absent), FER-SRC-003 (corrupt), FER-SRC-006 (no examples)."""
    import torch

    path = Path(spec).expanduser()
    if not path.is_file():
        raise SourceError("FER-SRC-002", f"{path} does not exist.")
    try:
        # torch does not look at the archive's checksums, and damaged weights would go unnoticed.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} does not fit")
        program = torch.export.load(path)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:300]
        raise SourceError(
            "FER-SRC-003",
            f"{path} is not a program that torch {torch.__version__} can load: {type(error).__name__}: {first}",
            "Save it again with torch.export.save under this version of torch.",
        ) from error
    if program.example_inputs is None:
        raise SourceError("FER-SRC-006", f"{path} was saved without example inputs.", "Export it with them.")
    arguments, keywords = program.example_inputs
    tensors = [*arguments, *keywords.values()]
    names = list(program.graph_signature.user_inputs)
    if len(names) != len(tensors) or not all(isinstance(t, torch.Tensor) for t in tensors):
        raise SourceError("FER-SRC-006", f"{path} takes nested inputs ({names}); flat tensors are needed.")
    dynamic = _dynamic_axes(program, names)
    module = _by_position(_with_layers(program), names, list(keywords))
    entry = EntryPoint(module, dict(zip(names, tensors, strict=True)), dynamic)
    return Model({"forward": entry}, source=path.name, proof_source="the inputs saved with the program")


def _dynamic_axes(program: ExportedProgram, names: list[str]) -> dict[str, dict[int, Dim]]:
    """Ranges of the symbols that stand in the shapes of inputs."""
    ranges = {str(symbol): r for symbol, r in program.range_constraints.items()}
    out: dict[str, dict[int, Dim]] = {}
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in names:
            continue
        for axis, length in enumerate(node.meta["val"].shape):
            if str(length) in ranges:
                bound = ranges[str(length)]
                upper = int(bound.upper) if bound.upper.is_integer and bound.upper < 2**31 else 2048
                dim = Dim(str(length), max(2, int(bound.lower)), upper)
                out.setdefault(node.name, {})[axis] = dim
    return out


def _with_layers(program: ExportedProgram) -> nn.Module:
    """The program as a module whose `linear` and `embedding` calls on parameters are layers again."""
    import torch
    from torch import nn

    module = program.module(check_guards=False)
    for name in ("train", "eval"):  # made to raise by torch.export, though in a graph that is captured they do nothing
        module.__dict__.pop(name, None)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    made: dict[tuple[str, ...], str] = {}
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.linear.default and _are_parameters(node.args[1:], parameters):
            names = tuple(str(n.target) for n in node.args[1:] if n is not None)
            weight = parameters[names[0]]
            layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            layer.weight = weight
            if len(names) > 1:
                layer.bias = parameters[names[1]]
            _call_layer(module, node, node.args[0], names, layer, made)
        elif node.target is torch.ops.aten.embedding.default and _are_parameters(node.args[:1], parameters):
            names = (str(node.args[0].target),)
            weight = parameters[names[0]]
            layer = nn.Embedding(weight.shape[0], weight.shape[1], device="meta")
            layer.weight = weight
            _call_layer(module, node, node.args[1], names, layer, made)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _by_position(module: nn.Module, names: list[str], keywords: list[str]) -> nn.Module:
    """The module called with all its inputs by position, keyword arguments last."""
    from torch import fx

    if not keywords:
        return module
    graph = fx.Graph()
    inputs = [graph.placeholder(name) for name in names]
    first = len(names) - len(keywords)
    call = graph.call_module("program", tuple(inputs[:first]), dict(zip(keywords, inputs[first:], strict=True)))
    graph.output(call)
    return fx.GraphModule({"program": module}, graph)


def _are_parameters(nodes: tuple[fx.Node | None, ...], parameters: Mapping[str, nn.Parameter]) -> bool:
    """Weights computed in the graph, and those that are buffers, stay with the op that uses them."""
    return all(node is None or (node.op == "get_attr" and str(node.target) in parameters) for node in nodes)


def _call_layer(
    module: fx.GraphModule,
    node: fx.Node,
    argument: fx.Node,
    weights: tuple[str, ...],
    layer: nn.Module,
    made: dict[tuple[str, ...], str],
) -> None:
    """Call `layer` in place of `node`, named after the owner of its weights; calls with the same ones share it."""
    key = (type(layer).__name__, *weights)
    if key not in made:
        name = f"{weights[0].rpartition('.')[0] or weights[0]}_layer".replace(".", "_")
        while hasattr(module, name):  # another weight of the same owner
            name += "_"
        module.add_submodule(name, layer)
        made[key] = name
    with module.graph.inserting_before(node):
        call = module.graph.call_module(made[key], (argument,))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)
