"""Rewrite a captured graph so that XNNPACK takes more of it. Every rewrite is exact but for float rounding.

What it works around: XNNPACK has no layer norm; its reshape knows one dynamic length at most, so that attention of
the shape [1, heads, tokens, tokens] would fall apart into pieces; `executorch_attention` treats the attention op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ferrule.converters.executorch_attention import open_attention
from ferrule.converters.executorch_edits import call, calls, swap

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

__all__ = ["fix_view_lengths", "rewrite"]


def rewrite(program: ExportedProgram) -> None:
    """Rewrite an ATen program in place: attention, layer norm, tanh-GELU, pooling, leading axes of 1, equal ranges."""
    passes: tuple[Callable[[ExportedProgram], None], ...] = (
        open_attention,  # first: it makes the matrix products whose leading axis the last pass drops
        _open_layer_norm,
        _open_tanh_gelu,
        _open_mean,
        _drop_leading_axis,
        _share_ranges,
    )
    for step in passes:
        step(program)
    program.graph.eliminate_dead_code()
    program.graph_module.recompile()


def fix_view_lengths(module: fx.GraphModule) -> Any:
    """Edge pass: a view with one dynamic length spells it -1, the only way in which XNNPACK takes it.

    squeeze and unsqueeze of float tensors become such views; a view that keeps the shape goes away.
    """
    from executorch.exir.dialects._ops import ops
    from torch.fx.passes.infra.pass_base import PassResult

    aten = ops.edge.aten
    axes = (aten.squeeze_copy.dim, aten.squeeze_copy.dims, aten.unsqueeze_copy.default)
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target not in (aten.view_copy.default, *axes):
            continue
        value, source = node.meta["val"], node.args[0]
        if [str(n) for n in value.shape] == [str(n) for n in source.meta["val"].shape]:
            node.replace_all_uses_with(source)
            continue
        lengths = [n if isinstance(n, int) else -1 for n in value.shape]
        if lengths.count(-1) <= 1 and value.dtype.is_floating_point:
            node.target, node.args, node.kwargs = aten.view_copy.default, (source, lengths), {}
    module.graph.eliminate_dead_code()
    module.recompile()
    return PassResult(module, True)


def _open_layer_norm(program: ExportedProgram) -> None:
    """layer_norm over the last axis -> two products with a constant row of 1/n (the means) and elementwise ops."""
    import torch

    aten = torch.ops.aten
    for node in calls(program, aten.layer_norm.default):
        x, shape, *rest = node.args
        weight, bias, eps = (rest + [None, None, 1e-5][len(rest) :])[:3]
        if len(shape) != 1 or not isinstance(shape[0], int) or x.meta["val"].dtype != torch.float32:
            continue
        row = _mean_row(program, shape[0])
        centred = call(node, aten.sub.Tensor, x, call(node, aten.linear.default, x, row))
        variance = call(node, aten.linear.default, call(node, aten.mul.Tensor, centred, centred), row)
        inverse = call(node, aten.rsqrt.default, call(node, aten.add.Tensor, variance, eps))
        y = call(node, aten.mul.Tensor, centred, inverse)
        if weight is not None:
            y = call(node, aten.mul.Tensor, y, weight)
        if bias is not None:
            y = call(node, aten.add.Tensor, y, bias)
        swap(node, y)


def _mean_row(program: ExportedProgram, width: int) -> fx.Node:
    """The constant [1, width] that holds 1/width; made once for each width."""
    import torch
    from executorch.backends.transforms.utils import create_constant_placeholder
    from torch.export.graph_signature import InputKind

    first = next(iter(program.graph.nodes))
    data = torch.full((1, width), 1.0 / width)
    with program.graph.inserting_before(first):
        node: fx.Node = create_constant_placeholder(
            program, program.graph, f"ferrule_mean_{width}", InputKind.BUFFER, data, True
        )
    return node


def _open_tanh_gelu(program: ExportedProgram) -> None:
    """gelu(approximate=tanh) -> its formula: XNNPACK's own GELU, as ExecuTorch writes it, is the erf one."""
    import torch

    aten = torch.ops.aten
    for node in calls(program, aten.gelu.default):
        if node.kwargs.get("approximate") != "tanh":
            continue
        x = node.args[0]
        cube = call(node, aten.mul.Tensor, call(node, aten.mul.Tensor, x, x), x)
        inner = call(node, aten.add.Tensor, x, call(node, aten.mul.Tensor, cube, 0.044715))
        bend = call(node, aten.tanh.default, call(node, aten.mul.Tensor, inner, 0.7978845608028654))
        half = call(node, aten.mul.Tensor, x, 0.5)
        swap(node, call(node, aten.mul.Tensor, half, call(node, aten.add.Tensor, bend, 1.0)))


def _open_mean(program: ExportedProgram) -> None:
    """Mean over the two last of four axes -> the mean that keeps them (XNNPACK has that one), and a view."""
    import torch

    aten = torch.ops.aten
    for node in calls(program, aten.mean.dim):
        x, axes, *keep = node.args
        shape = list(x.meta["val"].shape)
        if len(shape) != 4 or sorted(a % 4 for a in axes) != [2, 3] or any(keep) or node.kwargs:
            continue
        if sum(not isinstance(n, int) for n in shape[:2]) <= 1:
            kept = call(node, aten.mean.dim, x, [2, 3], True)
            lengths = [n if isinstance(n, int) else -1 for n in shape[:2]]
            swap(node, call(node, aten.reshape.default, kept, lengths))


def _share_ranges(program: ExportedProgram) -> None:
    """Static layers that read one tensor by one range (queries, keys, values) quantize it once."""
    import torch
    import torch.ao.quantization.fx._decomposed  # noqa: F401  defines the ops

    ops = torch.ops.quantized_decomposed
    for target in (ops.quantize_per_tensor.default, ops.dequantize_per_tensor.default):
        first: dict[tuple[Any, ...], fx.Node] = {}
        for node in calls(program, target):
            kept = first.setdefault(tuple(node.args), node)
            if kept is not node:
                swap(node, kept)


def _drop_leading_axis(program: ExportedProgram) -> None:
    """Attention of batch 1 in three axes instead of four, where two lengths are dynamic.

    matmul [1, h, s, d] x [1, h, d, s]  ->  matmul [h, s, d] x [h, d, s], and so on through softmax up to the
    view that leaves the four axes. Values and their order in memory are the same.
    """
    import torch

    flat: dict[fx.Node, fx.Node] = {}
    for node in list(program.graph.nodes):
        if _starts_flat(node) or any(i in flat for i in node.all_input_nodes):
            if _can_be_flat(node):
                _flatten(node, flat)
                continue
            for source in [i for i in node.all_input_nodes if i in flat]:
                new = flat[source] if _is_view(node) else call(node, torch.ops.aten.unsqueeze.default, flat[source], 0)
                node.replace_input_with(source, new)


def _starts_flat(node: fx.Node) -> bool:
    import torch

    if node.op != "call_function" or node.target != torch.ops.aten.matmul.default or not _has_one(node):
        return False
    return sum(not isinstance(n, int) for n in node.meta["val"].shape) > 1


def _has_one(node: Any) -> bool:
    """Four axes, the first of length one."""
    value: Any = getattr(node, "meta", {}).get("val")
    return hasattr(value, "shape") and len(value.shape) == 4 and isinstance(value.shape[0], int) and value.shape[0] == 1


def _is_view(node: fx.Node) -> bool:
    import torch

    return node.target in (torch.ops.aten.view.default, torch.ops.aten.reshape.default)


def _can_be_flat(node: fx.Node) -> bool:
    import torch

    aten = torch.ops.aten
    if node.op != "call_function" or not _has_one(node):
        return False
    if _is_view(node) or node.target in (aten.contiguous.default, aten.dropout.default):
        return True
    if node.target in (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor):
        return all(_has_one(a) or a.meta["val"].dim() < 4 for a in node.all_input_nodes)
    if node.target == aten.matmul.default:
        return all(_has_one(a) for a in node.args)
    if node.target == aten.softmax.int:
        return bool(node.args[1] % 4 != 0)
    return node.target == aten.transpose.int and 0 not in (node.args[1] % 4, node.args[2] % 4)


def _is_even_product(node: fx.Node) -> bool:
    """A matmul of as many heads on either side: a bmm, without the expanding that matmul brings along."""
    import torch

    if node.target != torch.ops.aten.matmul.default:
        return False
    heads = [a.meta["val"].shape[1] for a in node.all_input_nodes]
    return all(isinstance(n, int) for n in heads) and heads[0] == heads[-1]


def _flatten(node: fx.Node, flat: dict[fx.Node, fx.Node]) -> fx.Node:
    """The node without its leading axis, its inputs first; what cannot be rewritten is squeezed."""
    import torch

    if node in flat:
        return flat[node]
    if not _can_be_flat(node):
        with node.graph.inserting_after(node):
            new = node.graph.call_function(torch.ops.aten.squeeze.dim, (node, 0))
        new.meta.update({k: v for k, v in node.meta.items() if k in ("stack_trace", "nn_module_stack", "custom")})
    elif _is_view(node):
        source = node.args[0]
        source = _flatten(source, flat) if _can_be_flat(source) else source
        new = call(node, torch.ops.aten.reshape.default, source, node.args[1][1:])
    else:
        args = [_flatten(a, flat) if _has_one(a) else a for a in node.args]
        if node.target == torch.ops.aten.softmax.int:
            args[1] = args[1] % 4 - 1
        elif node.target == torch.ops.aten.transpose.int:
            args[1:3] = [a % 4 - 1 for a in args[1:3]]
        target = torch.ops.aten.bmm.default if _is_even_product(node) else node.target
        new = call(node, target, *args)
    flat[node] = new
    return new
