"""Our coded ops in MIL, as translations for coremltools' registry.

affine        constexpr_blockwise_shift_scale(codes, scales) ─▶ linear, gather
lookup        constexpr_lut_to_dense(indices, palettes) ─▶ linear, gather ─▶ × scales of the rows, if any
static        quantize ─▶ dequantize ─▶ the linear layer ─▶ quantize ─▶ dequantize
"""

from __future__ import annotations

from typing import Any

from ferrule.converters.coreml.codecs import affine_constant, half_scale, lookup_constant

__all__ = ["coded_embedding", "coded_linear"]


def coded_linear(context: Any, node: Any) -> None:
    """`coded_linear`: a linear layer whose weight is the codes."""
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    x, codes, scales, table, bias, bits, group, _, ranges = _get_inputs(context, node)
    values = _numbers(ranges)
    last = {"name": node.name}
    if table is None:
        weight = affine_constant(codes.val, scales.val, int(bits.val), int(group.val))
        x = _fill(x, weight.shape[-1] - codes.shape[-1])
    else:
        weight = lookup_constant(codes.val, table.val, int(bits.val))
    if values:
        x = _round(x, values[0], values[1], {})
    y = _product(x, weight, None if table is None else scales.val, bias, {} if values else last)
    context.add(_round(y, values[2], values[3], last) if values else y)


def coded_embedding(context: Any, node: Any) -> None:
    """`coded_embedding`: rows gathered from the codes, cut to the table's width."""
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    indices, codes, scales, table, bits, group = _get_inputs(context, node)
    last = {"name": node.name}
    if table is not None:
        weight, scaled = lookup_constant(codes.val, table.val, int(bits.val)), bool((scales.val != 1).any())
        rows = mb.gather(x=weight, indices=indices, axis=0, **({} if scaled else last))
        if scaled:
            rows = mb.mul(x=rows, y=mb.gather(x=scales.val, indices=indices, axis=0), **last)
        context.add(rows)
        return
    weight = affine_constant(codes.val, scales.val, int(bits.val), int(group.val))
    width = int(codes.shape[-1])
    whole = weight.shape[-1] == width
    rows = mb.gather(x=weight, indices=indices, axis=0, **(last if whole else {}))
    if not whole:
        rank = len(rows.shape)
        rows = mb.slice_by_index(
            x=rows, begin=[0] * rank, end=[0] * (rank - 1) + [width],
            begin_mask=[True] * rank, end_mask=[True] * (rank - 1) + [False], **last,
        )  # fmt: skip
    context.add(rows)


def _numbers(ranges: Any) -> list[float]:
    """A list argument as numbers: coremltools gives one constant, or a list of them, or nothing for an empty list."""
    import numpy as np

    if ranges is None:
        return []
    values = [item.val if hasattr(item, "val") else item for item in ranges] if isinstance(ranges, list) else ranges.val
    return [float(value) for value in np.asarray(values).reshape(-1)]


def _fill(x: Any, missing: int) -> Any:
    """As many zeros as zero codes that the last group was filled with."""
    from coremltools.converters.mil import Builder as mb

    if not missing:
        return x
    return mb.pad(x=x, pad=[0] * (2 * len(x.shape) - 1) + [missing], mode="constant", constant_val=0.0)


def _product(x: Any, weight: Any, scales: Any, bias: Any, last: dict[str, str]) -> Any:
    """x times the weight, by the rows' scales after it, plus the bias."""
    from coremltools.converters.mil import Builder as mb

    shift = {} if bias is None else {"bias": bias}
    if scales is None or not (scales != 1).any():
        return mb.linear(x=x, weight=weight, **shift, **last)
    y = mb.mul(x=mb.linear(x=x, weight=weight), y=scales.reshape(-1), **({} if shift else last))
    return mb.add(x=y, y=bias, **last) if shift else y


def _round(x: Any, scale: float, zero_point: float, last: dict[str, str]) -> Any:
    """x rounded to the int8 values of a range; Core ML computes what lies between two of these in int8 if it can."""
    import numpy as np
    from coremltools.converters.mil import Builder as mb

    held = {"scale": np.float32(half_scale(scale)), "zero_point": np.int8(zero_point)}
    return mb.dequantize(input=mb.quantize(input=x, output_dtype="int8", **held), **held, **last)
