"""Rewrite a captured graph so that XNNPACK takes more of it. Every rewrite is exact but for float rounding.

What it works around: XNNPACK has no layer norm; its reshape knows one dynamic length at most, so that attention of
the shape [1, heads, tokens, tokens] would fall apart into pieces; torch's attention guards against rows that are wholly
masked by ops that XNNPACK lacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

__all__ = ["fix_view_lengths", "rewrite"]


def rewrite(program: ExportedProgram) -> None:
    """Rewrite an ATen program in place: attention, layer norm, tanh-GELU, pooling, leading axes of length one."""
    passes: tuple[Callable[[ExportedProgram], None], ...] = (
        _open_attention,  # first: it makes the matrix products whose leading axis the last pass drops
        _open_layer_norm,
        _open_tanh_gelu,
        _open_mean,
        _drop_leading_axis,
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


def _call(like: fx.Node, target: Any, *args: Any) -> fx.Node:
    """A new call before `like`, of the same origin."""
    with like.graph.inserting_before(like):
        node = like.graph.call_function(target, args)
    node.meta.update({k: v for k, v in like.meta.items() if k in ("stack_trace", "nn_module_stack")})
    return node


def _calls(program: ExportedProgram, target: Any) -> list[fx.Node]:
    return [n for n in program.graph.nodes if n.op == "call_function" and n.target == target]


def _swap(node: fx.Node, new: fx.Node) -> None:
    node.replace_all_uses_with(new)
    new.meta.setdefault("val", node.meta.get("val"))
    node.graph.erase_node(node)


def _open_layer_norm(program: ExportedProgram) -> None:
    """layer_norm over the last axis -> two products with a constant row of 1/n (the means) and elementwise ops."""
    import torch

    aten = torch.ops.aten
    for node in _calls(program, aten.layer_norm.default):
        x, shape, *rest = node.args
        weight, bias, eps = (rest + [None, None, 1e-5][len(rest) :])[:3]
        if len(shape) != 1 or not isinstance(shape[0], int) or x.meta["val"].dtype != torch.float32:
            continue
        row = _mean_row(program, shape[0])
        centred = _call(node, aten.sub.Tensor, x, _call(node, aten.linear.default, x, row))
        variance = _call(node, aten.linear.default, _call(node, aten.mul.Tensor, centred, centred), row)
        inverse = _call(node, aten.rsqrt.default, _call(node, aten.add.Tensor, variance, eps))
        y = _call(node, aten.mul.Tensor, centred, inverse)
        if weight is not None:
            y = _call(node, aten.mul.Tensor, y, weight)
        if bias is not None:
            y = _call(node, aten.add.Tensor, y, bias)
        _swap(node, y)


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
    for node in _calls(program, aten.gelu.default):
        if node.kwargs.get("approximate") != "tanh":
            continue
        x = node.args[0]
        cube = _call(node, aten.mul.Tensor, _call(node, aten.mul.Tensor, x, x), x)
        inner = _call(node, aten.add.Tensor, x, _call(node, aten.mul.Tensor, cube, 0.044715))
        bend = _call(node, aten.tanh.default, _call(node, aten.mul.Tensor, inner, 0.7978845608028654))
        half = _call(node, aten.mul.Tensor, x, 0.5)
        _swap(node, _call(node, aten.mul.Tensor, half, _call(node, aten.add.Tensor, bend, 1.0)))


def _open_mean(program: ExportedProgram) -> None:
    """Mean over the two last of four axes -> the mean that keeps them (XNNPACK has that one), and a view."""
    import torch

    aten = torch.ops.aten
    for node in _calls(program, aten.mean.dim):
        x, axes, *keep = node.args
        shape = list(x.meta["val"].shape)
        if len(shape) != 4 or sorted(a % 4 for a in axes) != [2, 3] or any(keep) or node.kwargs:
            continue
        if sum(not isinstance(n, int) for n in shape[:2]) <= 1:
            kept = _call(node, aten.mean.dim, x, [2, 3], True)
            lengths = [n if isinstance(n, int) else -1 for n in shape[:2]]
            _swap(node, _call(node, aten.reshape.default, kept, lengths))


def _open_attention(program: ExportedProgram) -> None:
    """scaled_dot_product_attention -> matmul, softmax, matmul, where no row can be masked wholly."""
    import torch

    aten = torch.ops.aten
    for node in _calls(program, aten.scaled_dot_product_attention.default):
        q, k, v, *rest = node.args
        mask, dropout, causal = (*rest, *(None, 0.0, False)[len(rest) :])[:3]
        if dropout or rest[3:] or node.kwargs.get("enable_gqa") or (mask is not None and not _is_finite(program, mask)):
            continue
        columns = k.meta["val"].shape[-2]
        value = q.meta["val"].new_empty((*q.meta["val"].shape[:-1], columns))
        scale = node.kwargs.get("scale") or q.meta["val"].shape[-1] ** -0.5
        turned = _call(node, aten.transpose.int, k, -2, -1)
        turned.meta["val"] = k.meta["val"].transpose(-2, -1)
        scaled = _call(node, aten.mul.Tensor, q, scale)
        scaled.meta["val"] = q.meta["val"]
        scores = _call(node, aten.matmul.default, scaled, turned)
        for extra in (mask, _causal_mask(node, q, k) if causal else None):
            if extra is not None:
                scores.meta["val"] = value
                scores = _call(node, aten.add.Tensor, scores, extra)
        weights = _call(node, aten.softmax.int, scores, -1)
        scores.meta["val"] = weights.meta["val"] = value
        _swap(node, _call(node, aten.matmul.default, weights, v))


def _causal_mask(node: fx.Node, q: fx.Node, k: fx.Node) -> fx.Node:
    """[queries, keys]: 0 up to the diagonal, -1e30 beyond it, which softmax turns into exact zeros.

    The first key is open to every query, so no row is masked wholly.
    """
    import torch

    aten = torch.ops.aten
    shape = [x.meta["val"].shape[-2] for x in (q, k)]
    lengths = [
        n if isinstance(n, int) else _call(node, aten.sym_size.int, x, 2) for n, x in zip(shape, (q, k), strict=True)
    ]
    for length, n in zip(lengths, shape, strict=True):
        if not isinstance(length, int):
            length.meta["val"] = n
    ones = _call(node, aten.full.default, lengths, 1.0)
    closed = _call(node, aten.sub.Tensor, _call(node, aten.tril.default, ones), 1.0)
    mask = _call(node, aten.mul.Tensor, closed, 1e30)
    mask.meta["val"] = q.meta["val"].new_empty(shape)
    return mask


def _is_finite(program: ExportedProgram, mask: fx.Node) -> bool:
    """Whether an additive mask is finite for certain, so that softmax never meets a row of -inf alone."""
    import torch

    value = mask.meta["val"]
    return bool(value.dtype == torch.float32 and _bound(program, mask) <= torch.finfo(torch.float32).max)


def _bound(program: ExportedProgram, node: fx.Node) -> float:
    """An upper bound of |value|; infinite where it does not follow from constants and integer inputs."""
    import torch

    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor) or "alpha" in node.kwargs:
        return float("inf")
    if value.dtype == torch.bool:
        return 1.0
    if node.op == "placeholder":
        return _placeholder_bound(program, node, value)
    name = str(node.target).removeprefix("aten.").split(".")[0]
    if name in ("zeros", "ones", "zeros_like", "ones_like"):
        return 1.0
    if name in ("full", "full_like") and isinstance(node.args[1], int | float):
        return abs(node.args[1])
    if name not in _BOUNDED:
        return float("inf")
    sides = [_bound(program, a) if hasattr(a, "op") else abs(a) for a in node.args if _is_number(a)]
    if name in ("add", "sub", "rsub"):
        return sum(sides)
    if name == "mul":
        return sides[0] * sides[1]
    return max(sides) if name in ("masked_fill", "where", "maximum", "minimum") else sides[0]


_BOUNDED = frozenset(
    ("add", "sub", "rsub", "mul", "masked_fill", "where", "maximum", "minimum", "to", "_to_copy", "view", "reshape")
    + ("expand", "unsqueeze", "squeeze", "slice", "select", "permute", "transpose", "clone", "contiguous", "alias")
    + ("neg", "tril", "triu")
)


def _is_number(argument: object) -> bool:
    return hasattr(argument, "op") or (isinstance(argument, int | float) and not isinstance(argument, bool))


def _placeholder_bound(program: ExportedProgram, node: fx.Node, value: Any) -> float:
    import torch
    from torch._export.utils import get_buffer, get_lifted_tensor_constant, get_param

    for read in (get_param, get_buffer, get_lifted_tensor_constant):
        held = read(program, node)
        if held is not None:
            return float(held.abs().max()) if held.numel() else 0.0
    return float("inf") if value.dtype.is_floating_point else float(torch.iinfo(value.dtype).max)


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
                new = flat[source] if _is_view(node) else _call(node, torch.ops.aten.unsqueeze.default, flat[source], 0)
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
        new.meta.update({k: v for k, v in node.meta.items() if k in ("stack_trace", "nn_module_stack")})
    elif _is_view(node):
        source = node.args[0]
        source = _flatten(source, flat) if _can_be_flat(source) else source
        new = _call(node, torch.ops.aten.reshape.default, source, node.args[1][1:])
    else:
        args = [_flatten(a, flat) if _has_one(a) else a for a in node.args]
        if node.target == torch.ops.aten.softmax.int:
            args[1] = args[1] % 4 - 1
        elif node.target == torch.ops.aten.transpose.int:
            args[1:3] = [a % 4 - 1 for a in args[1:3]]
        target = torch.ops.aten.bmm.default if _is_even_product(node) else node.target
        new = _call(node, target, *args)
    flat[node] = new
    return new
