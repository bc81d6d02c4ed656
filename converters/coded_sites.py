"""Find the coded ops of a captured graph, and put a target's own module in the place of each.

A converter that wants other ops than `ferrule::coded_linear` gives a function from a site (the codec with its bias and
activation) to a module; the graph is captured again with those modules in it.

    before   x ── ferrule.coded_linear(codes, scales, bias) ── y
    after    x ── <the target's module> ── y
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ferrule.model import Captured
from ferrule.program import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torch.export import ExportedProgram

    from ferrule.codec import Codec, Range

__all__ = [
    "CONVOLUTION_ADVICE",
    "CodedSite",
    "Window",
    "capture_module",
    "coded_sites",
    "float_layer",
    "recapture",
    "specialise",
]

CONVOLUTION_ADVICE = "Leave conv8 out of the recipe here, build for native, or allow expanding to float32 (--expand)."
"""What to say where a target has no coded convolutions."""


_LINEAR = ("x", "codes", "scales", "table", "bias", "bits", "group", "activation", "ranges")
_EMBEDDING = ("indices", "codes", "scales", "table", "bits", "group")
_CONV = ("x", "codes", "scales", "bias", "kernel", "stride", "padding", "dilation", "groups", "given")


@dataclass(frozen=True)
class Window:
    """How a convolution moves over pictures, heights before widths; given: the range of its input."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    given: Range


@dataclass(frozen=True)
class CodedSite:
    """One coded op of a graph. kind: `linear`, `embedding` or `conv`; name: the buffer of the codes, as a path.

    ranges: of input and output, for static activations of linear layers. window: of convolutions, the weight of which
    the codec holds as a matrix.
    """

    kind: str
    name: str
    codec: Codec
    bias: Tensor | None
    activation: int
    ranges: tuple[Range, Range] | None = None
    window: Window | None = None


def coded_sites(program: ExportedProgram) -> list[CodedSite]:
    """The coded ops of a program in graph order, with their tensors."""
    module = program.module(check_guards=False)
    return [_read_site(module, node) for node in module.graph.nodes if _is_coded(node)]


def float_layer(site: CodedSite) -> nn.Module:
    """A plain layer with the decoded weight, for a codec that a target cannot hold when `expand` allows it."""
    from torch import nn

    from ferrule.codec import decode

    weight = nn.Parameter(decode(site.codec), requires_grad=False)
    if site.kind == "embedding":
        return nn.Embedding.from_pretrained(weight)
    layer: nn.Conv2d | nn.Linear
    has_bias = site.bias is not None
    if site.window is not None:
        w = site.window
        weight = nn.Parameter(weight.view(len(weight), -1, *w.kernel), requires_grad=False)
        channels = weight.shape[1] * w.groups, len(weight)
        layer = nn.Conv2d(*channels, w.kernel, w.stride, w.padding, w.dilation, w.groups, bias=has_bias, device="meta")
    else:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias, device="meta")
    layer.weight = weight
    if site.bias is not None:
        layer.bias = nn.Parameter(site.bias, requires_grad=False)
    return layer


def recapture(
    graph: Captured,
    make: Callable[[CodedSite], nn.Module | None] | None = None,
    lengths: Mapping[str, int] | None = None,
) -> Captured:
    """Capture again, with `make(site)` in place of each coded op (None keeps it) and dynamic axes fixed to `lengths`.

    lengths: dim name -> length; a dim that is absent stays dynamic. Sites that share codes share the module made.
    """
    import ferrule.coded
    import ferrule.runtime.torch_ops  # noqa: F401  the ops must exist before the graph is run

    module = graph.program.module(check_guards=False)
    made: dict[str, str | None] = {}
    if make is not None:
        for node in list(module.graph.nodes):
            if _is_coded(node):
                _replace(module, node, _read_site(module, node), make, made)
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        _delete_unused_buffers(module)
        module.recompile()
    return capture_module(module, graph, lengths or {})


def capture_module(module: fx.GraphModule, graph: Captured, lengths: Mapping[str, int]) -> Captured:
    """Capture a module that was made of a graph, with its inputs, outputs and dynamic axes but for `lengths`."""
    import torch

    arguments = tuple(_example(spec, graph, lengths) for spec in graph.signature.inputs)
    dims = {n: torch.export.Dim(n, min=d.min, max=d.max) for n, d in graph.signature.dims.items() if n not in lengths}
    shapes = tuple({axis: dims[n] for axis, n in enumerate(spec.shape) if n in dims} for spec in graph.signature.inputs)
    with torch.no_grad():
        program = torch.export.export(module, arguments, dynamic_shapes=shapes if dims else None)
    return Captured(program, specialise(graph.signature, lengths))


def _delete_unused_buffers(module: fx.GraphModule) -> None:
    """Drop the root's own buffers that no node reads: a model that is itself a coded layer keeps its codes there."""
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in module.named_buffers(recurse=False) if name not in read]:
        delattr(module, name)


def specialise(signature: Signature, lengths: Mapping[str, int]) -> Signature:
    """The signature with some dynamic axes fixed."""

    def fix(spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=tuple(lengths.get(n, n) if isinstance(n, str) else n for n in spec.shape))

    dims: dict[str, Dim] = {n: d for n, d in signature.dims.items() if n not in lengths}
    return replace(
        signature,
        inputs=tuple(fix(s) for s in signature.inputs),
        outputs=tuple(fix(s) for s in signature.outputs),
        dims=dims,
    )


def _is_coded(node: fx.Node) -> bool:
    return node.op == "call_function" and str(node.target).startswith("ferrule.coded_")


def _read_window(arguments: Mapping[str, Any]) -> Window:
    from ferrule.codec import Range

    kernel, stride, padding, dilation = (
        (int(arguments[key][0]), int(arguments[key][1])) for key in ("kernel", "stride", "padding", "dilation")
    )
    given = Range(float(arguments["given"][0]), int(arguments["given"][1]))
    return Window(kernel, stride, padding, dilation, int(arguments["groups"]), given)


def _read_site(module: fx.GraphModule, node: fx.Node) -> CodedSite:
    from ferrule.codec import Affine, Lookup, Range
    from ferrule.coded import ACTIVATION_STATIC

    def tensor(argument: object) -> Tensor:
        path = str(getattr(argument, "target"))  # noqa: B009  fx nodes are untyped here
        value: Tensor = module.get_buffer(path) if _has_buffer(module, path) else module.get_parameter(path)
        return value

    linear, conv = "coded_linear" in str(node.target), "coded_conv" in str(node.target)
    labels = _LINEAR if linear else _CONV if conv else _EMBEDDING
    arguments: dict[str, Any] = dict(zip(labels, node.args, strict=True))
    name = str(arguments["codes"].target).removesuffix(".codes").removesuffix("_codes")
    codes, scales = tensor(arguments["codes"]), tensor(arguments["scales"])
    if conv:
        bias = None if arguments["bias"] is None else tensor(arguments["bias"])
        return CodedSite("conv", name, Affine(codes, scales, 8), bias, ACTIVATION_STATIC, None, _read_window(arguments))
    bits, group = int(arguments["bits"]), int(arguments["group"])
    codec: Codec = Affine(codes, scales, bits, group)
    if arguments["table"] is not None:
        codec = Lookup(codes, tensor(arguments["table"]), scales, bits, group)
    if not linear:
        return CodedSite("embedding", name, codec, None, 0)
    bias = None if arguments["bias"] is None else tensor(arguments["bias"])
    values = [float(v) for v in arguments["ranges"]]
    ranges = (Range(values[0], int(values[1])), Range(values[2], int(values[3]))) if values else None
    return CodedSite("linear", name, codec, bias, int(arguments["activation"]), ranges)


def _has_buffer(module: nn.Module, path: str) -> bool:
    owner, _, leaf = path.rpartition(".")
    return leaf in dict(module.get_submodule(owner).named_buffers(recurse=False))


def _replace(
    module: fx.GraphModule,
    node: fx.Node,
    site: CodedSite,
    make: Callable[[CodedSite], nn.Module | None],
    made: dict[str, str | None],
) -> None:
    if site.name not in made:
        new = make(site)
        label = f"{site.name.replace('.', '_')}_{site.kind}"
        made[site.name] = None if new is None else label
        if new is not None:
            module.add_submodule(label, new)
    name = made[site.name]
    if name is None:
        return
    with module.graph.inserting_before(node):
        call = module.graph.call_module(name, (node.args[0],))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)


def _example(spec: TensorSpec, graph: Captured, lengths: Mapping[str, int]) -> Tensor:
    """An example input: the stored one where it fits, else ones of the length asked for."""
    import torch

    stored = dict(zip((s.name for s in graph.signature.inputs), graph.program.example_inputs[0], strict=True))
    value: Tensor = stored[spec.name]
    for axis, name in enumerate(spec.shape):
        if isinstance(name, str) and name in lengths:
            index = torch.arange(lengths[name]) % value.shape[axis]
            value = value.index_select(axis, index)
    return value
