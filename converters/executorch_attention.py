"""torch's attention op as matrix products and a softmax, all of which XNNPACK takes.

torch decomposes it with a guard: a row whose keys are all masked gives zeros, not NaN. The guard's ops are not
XNNPACK's and cut a model into pieces, so it is left out where no row can be masked wholly, and only there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferrule.converters.executorch_edits import call, calls, swap

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

__all__ = ["open_attention"]


def open_attention(program: ExportedProgram) -> None:
    """scaled_dot_product_attention -> matmul, softmax, matmul, where no row can be masked wholly."""
    import torch

    aten = torch.ops.aten
    for node in calls(program, aten.scaled_dot_product_attention.default):
        q, k, v, *rest = node.args
        mask, dropout, causal = (*rest, *(None, 0.0, False)[len(rest) :])[:3]
        if dropout or rest[3:] or node.kwargs.get("enable_gqa") or (mask is not None and not _is_finite(program, mask)):
            continue
        columns = k.meta["val"].shape[-2]
        value = q.meta["val"].new_empty((*q.meta["val"].shape[:-1], columns))
        scale = node.kwargs.get("scale") or q.meta["val"].shape[-1] ** -0.5
        turned = call(node, aten.transpose.int, k, -2, -1)
        turned.meta["val"] = k.meta["val"].transpose(-2, -1)
        scaled = call(node, aten.mul.Tensor, q, scale)
        scaled.meta["val"] = q.meta["val"]
        scores = call(node, aten.matmul.default, scaled, turned)
        for extra in (mask, _causal_mask(node, q, k) if causal else None):
            if extra is not None:
                scores.meta["val"] = value
                scores = call(node, aten.add.Tensor, scores, extra)
        weights = call(node, aten.softmax.int, scores, -1)
        scores.meta["val"] = weights.meta["val"] = value
        swap(node, call(node, aten.matmul.default, weights, v))


def _causal_mask(node: fx.Node, q: fx.Node, k: fx.Node) -> fx.Node:
    """[queries, keys]: 0 up to the diagonal, -1e30 beyond it, which softmax turns into exact zeros.

    The first key is open to every query, so no row is masked wholly.
    """
    import torch

    aten = torch.ops.aten
    shape = [x.meta["val"].shape[-2] for x in (q, k)]
    lengths = [
        n if isinstance(n, int) else call(node, aten.sym_size.int, x, 2) for n, x in zip(shape, (q, k), strict=True)
    ]
    for length, n in zip(lengths, shape, strict=True):
        if not isinstance(length, int):
            length.meta["val"] = n
    ones = call(node, aten.full.default, lengths, 1.0)
    closed = call(node, aten.sub.Tensor, call(node, aten.tril.default, ones), 1.0)
    mask = call(node, aten.mul.Tensor, closed, 1e30)
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
