"""int8 layers with a scale a row on ONNX Runtime's integer kernels, inputs quantized for each row.

    x ── row ranges ── QuantizeLinear ── MatMulIntegerToFloat ── times row scales ── plus center * sums, bias ── y

MatMulIntegerToFloat takes no zero point for each row, so these are put right after the product. ONNX Runtime's own
DynamicQuantizeLinear has one range for the whole tensor, which costs a transformer several points of cosine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ferrule.codec import Affine
from ferrule.coded import ACTIVATION_DYNAMIC

__all__ = ["RowLinear"]

_FINE_STEPS = 254.0
"""Steps into which one step of 8-bit inputs is divided where these carry 16 bits."""

_HALF_STEP = 128.0 / _FINE_STEPS


class RowLinear(nn.Module):
    """int8 codes with a scale a row, multiplied by integer kernels.

    Inputs are quantized for each row: to 8 bits, the arithmetic of `coded_linear`; or, in place of float inputs, to
    16 bits in two parts (`fine`), which errs by about 1e-5 of the largest output.

    codes: int8 [in, out]. scales: float32 [out]. sums: float32 [1, out], minus the scaled sum of each weight row, to
    be added once for each unit of an input row's zero point.
    """

    codes: Tensor
    scales: Tensor
    sums: Tensor
    unit: Tensor
    bias: Tensor | None

    def __init__(self, codec: Affine, bias: Tensor | None, activation: int) -> None:
        super().__init__()
        self.fine = activation != ACTIVATION_DYNAMIC
        scales = codec.scales.view(-1)
        self.register_buffer("codes", codec.codes.t().contiguous())
        self.register_buffer("scales", scales.clone())
        self.register_buffer("sums", -(codec.codes.sum(1) * scales).unsqueeze(0))
        self.register_buffer("unit", torch.ones(()))
        self.register_buffer("bias", bias)
        self.columns, self.rows = self.codes.shape

    def forward(self, x: Tensor) -> Tensor:
        flat = x.float().reshape(-1, self.columns)
        below = torch.relu(-flat.amin(-1))
        span = below + torch.relu(flat.amax(-1))
        scale = (span / 255.0).clamp_min(torch.finfo(torch.float32).eps)
        zero = (below / scale).round()
        codes = _quantize(flat, scale, zero.to(torch.uint8))
        column = scale.unsqueeze(-1)
        if self.fine:
            center = zero.unsqueeze(-1) + _HALF_STEP
            product = self._multiply_in_parts(flat, codes, column, center)
        else:
            center = zero.unsqueeze(-1)
            product = self._multiply(codes) * column
        y = torch.addmm(product, center * column, self.sums).reshape(*x.shape[:-1], self.rows)
        # Added last, where ONNX Runtime merges it with the GELU or the residual that follows.
        return y if self.bias is None else y + self.bias

    def _multiply_in_parts(self, flat: Tensor, codes: Tensor, scale: Tensor, center: Tensor) -> Tensor:
        """Product of inputs (codes - center) * scale + fine codes * fine scale, but for the center.

        What rounding leaves is half a step at most, so its range needs no search; the center moves it above zero.
        Both parts go through one product, which reads the weights once.
        """
        fine = scale / _FINE_STEPS
        rest = flat - (codes.float() - center) * scale
        fine_codes = _quantize(rest, fine.squeeze(-1), None)
        both = self._multiply(torch.cat([codes, fine_codes])).reshape(2, -1, self.rows)
        return both[0] * scale + both[1] * fine

    def _multiply(self, codes: Tensor) -> Tensor:
        product: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulIntegerToFloat",
            (codes, self.codes, self.unit, self.scales),
            dtype=torch.float32,
            shape=(codes.shape[0], self.rows),
            version=1,
        )
        return product


def _quantize(flat: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """uint8 codes [m, in] of float rows [m, in] under a scale [m] and a zero point [m] (or 0) for each.

    Together with `RowLinear.forward` the arithmetic of `ferrule.coded.quantize_rows`, in unsigned codes, for which
    the CPU kernels are fastest.
    """
    codes: Tensor = torch.onnx.ops.symbolic(
        "QuantizeLinear", (flat, scale, zero), {"axis": 0}, dtype=torch.uint8, shape=flat.shape
    )
    return codes
