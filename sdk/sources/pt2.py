"""`FILE.pt2`: a program saved by torch.export.save, made compressible again.

An exported graph calls `linear` and `embedding` on bare parameters. Putting layers back around them gives techniques
the same modules to act on that they find in a user's own code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ferrule.errors import SourceError
from ferrule.model import Dim, EntryPoint, Model

if TYPE_CHECKING:
    from torch import fx, nn
    from torch.export import ExportedProgram

__all__ = ["load"]


def load(spec: str) -> Model:
    """A saved program; raises SourceError FER-SRC-002 (absent), FER-SRC-003 (corrupt), FER-SRC-006 (no examples)."""
    import torch

    path = Path(spec).expanduser()
    if not path.is_file():
        raise SourceError("FER-SRC-002", f"{path} does not exist.")
    try:
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
    entry = EntryPoint(_with_layers(program), dict(zip(names, tensors, strict=True)), dynamic)
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
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.linear.default and _parameters(node.args[1:]):
            weight = module.get_parameter(str(node.args[1].target))
            layer: nn.Module = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
            layer.weight = weight
            if len(node.args) > 2 and node.args[2] is not None:
                layer.bias = module.get_parameter(str(node.args[2].target))
            _call_layer(module, node, node.args[0], str(node.args[1].target), layer)
        elif node.target is torch.ops.aten.embedding.default and _parameters(node.args[:1]):
            weight = module.get_parameter(str(node.args[0].target))
            layer = nn.Embedding(weight.shape[0], weight.shape[1], device="meta")
            layer.weight = weight
            _call_layer(module, node, node.args[1], str(node.args[0].target), layer)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _parameters(nodes: tuple[fx.Node | None, ...]) -> bool:
    return all(node is None or node.op == "get_attr" for node in nodes)


def _call_layer(module: fx.GraphModule, node: fx.Node, argument: fx.Node, weight: str, layer: nn.Module) -> None:
    """Call `layer` in place of `node`, under the name of the module that owned the weight."""
    name = f"{weight.rpartition('.')[0] or weight}_layer".replace(".", "_")
    if not hasattr(module, name):
        module.add_submodule(name, layer)
    with module.graph.inserting_before(node):
        call = module.graph.call_module(name, (argument,))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)
