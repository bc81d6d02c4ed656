"""Torch's ops on their way to MIL: which stay whole, and our own translations for coremltools' registry."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ferrule.converters.coreml.coded_ops import coded_embedding, coded_linear
from ferrule.converters.coreml.decompositions import make_table

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

__all__ = ["cast_likes", "decompose", "pool_by_mean", "register_ops"]


def decompose(program: ExportedProgram) -> ExportedProgram:
    """Core ATen, with what coremltools takes better whole, and without what it lacks."""
    decomposed = pool_by_mean(program).run_decompositions(make_table())
    float_fills(decomposed)
    return decomposed


def float_fills(program: ExportedProgram) -> None:
    """full(…, 0) of floats -> full(…, 0.0), in place: coremltools takes the type from the number."""
    import torch

    aten = torch.ops.aten
    for node in program.graph.nodes:
        if node.target in (aten.full.default, aten.full_like.default) and node.meta["val"].is_floating_point():
            node.args = (node.args[0], float(node.args[1]))
    program.graph_module.recompile()


def pool_by_mean(program: ExportedProgram) -> ExportedProgram:
    """Pooling to one pixel as a mean: torch's own decomposition ends in `as_strided` where channels come last."""
    import torch

    pool = torch.ops.aten.adaptive_avg_pool2d.default

    def pooled(x: Tensor, size: list[int]) -> Tensor:
        return x.mean((-2, -1), keepdim=True) if list(size) == [1, 1] else pool(x, size)

    if not any(node.target == pool and list(node.args[1]) == [1, 1] for node in program.graph.nodes):
        return program
    return program.run_decompositions({pool: pooled})


def cast_likes(program: ExportedProgram) -> None:
    """zeros_like(x, dtype) and its kin -> the same of x cast to dtype, in place.

    coremltools' translations of the edge dialect make the result of x's own type: a float mask made like a boolean one
    would become boolean.
    """
    import torch

    aten = torch.ops.aten
    for node in list(program.graph.nodes):
        if node.target not in (aten.zeros_like.default, aten.ones_like.default, aten.full_like.default):
            continue
        like, dtype = node.args[0], node.meta["val"].dtype
        if like.meta["val"].dtype == dtype:
            continue
        with program.graph.inserting_before(node):
            cast = program.graph.call_function(aten._to_copy.default, (like,), {"dtype": dtype})
        cast.meta = {**node.meta, "val": like.meta["val"].to(dtype)}
        node.args = (cast, *node.args[1:])
    program.graph_module.recompile()


@cache
def register_ops() -> None:
    """Teach coremltools our coded ops, `alias`, which it lacks, and a sound `where`, once a process."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op

    # Three names for ours: of the graph's node, of ExecuTorch's edge node, and what its partitioner looks up.
    table = {
        ferrule_alias: ["alias", "alias_copy"],
        ferrule_where: ["where", "where.self"],
        ferrule_prod: ["prod", "prod.dim_int"],
        ferrule_floordiv: ["floordiv"],
        coded_linear: ["ferrule::coded_linear", "ferrule.coded_linear", "coded_linear"],
        coded_embedding: ["ferrule::coded_embedding", "ferrule.coded_embedding", "coded_embedding"],
    }
    for translation, names in table.items():
        register_torch_op(torch_alias=names, override=True)(translation)


def ferrule_alias(context: Any, node: Any) -> None:
    """`alias` and `alias_copy`: the value itself."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    context.add(mb.identity(x=_get_inputs(context, node)[0], name=node.name))


def ferrule_floordiv(context: Any, node: Any) -> None:
    """Floor division of lengths, which stays whole; coremltools makes a float of it, and no shape takes that."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    x, y = _get_inputs(context, node, expected=2)
    context.add(mb.floor_div(x=x, y=y, name=node.name))


def ferrule_prod(context: Any, node: Any) -> None:
    """`prod` over one axis, or over all."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    x, *rest = _get_inputs(context, node)
    values = [value.val for value in rest[:2] if value is not None]
    axes = [int(values[0])] if values else list(range(x.rank))
    keep = bool(values[1]) if len(values) > 1 else False
    context.add(mb.reduce_prod(x=x, axes=axes, keep_dims=keep, name=node.name))


def ferrule_where(context: Any, node: Any) -> None:
    """`where`, with one branch spread to the condition's shape if neither has it and lengths are a range.

    coremltools infers the shape of `select` from its branches alone (apple/coremltools issue 2544); its own
    translation spreads them where every length is fixed, and so stays in use for the rest.
    """
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs, promote_input_dtypes
    from coremltools.converters.mil.frontend.torch.ops import where as own_where
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.types.symbolic import any_symbolic

    inputs = _get_inputs(context, node)
    if len(inputs) != 3 or not any(any_symbolic(value.shape) for value in inputs) or not _is_wider(*inputs):
        own_where(context, node)
        return
    cond, a, b = inputs
    a, b = promote_input_dtypes([a, b])
    if not types.is_bool(cond.dtype):
        cond = mb.cast(x=cond, dtype="bool")
    context.add(mb.select(cond=cond, a=_spread(a, cond), b=b, name=node.name))


def _is_wider(cond: Any, a: Any, b: Any) -> bool:
    """Whether the condition has an axis that neither branch has, or only as one element."""

    def has(value: Any, axis: int) -> bool:
        return len(value.shape) >= axis and value.shape[-axis] != 1

    return any(has(cond, n) and not (has(a, n) or has(b, n)) for n in range(1, len(cond.shape) + 1))


def _spread(value: Any, like: Any) -> Any:
    """The value in the shape that it broadcasts to with `like`."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

    if value.val is not None and not value.shape:
        return mb.fill_like(ref_tensor=like, value=value.val)
    if types.is_bool(value.dtype):
        return mb.logical_or(x=value, y=mb.fill_like(ref_tensor=like, value=False))
    zero = types.nptype_from_builtin(value.dtype)(0)
    return mb.add(x=value, y=mb.fill_like(ref_tensor=like, value=zero))
