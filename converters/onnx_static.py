"""int8 layers whose inputs and outputs are int8 in ranges known beforehand, on ONNX Runtime's integer kernels.

    x ── QuantizeLinear ── QGemm (int8 codes, int32 bias) ── DequantizeLinear ── y

Activations are unsigned, for which the CPU kernels are fastest by far (signed ones take fifteen times as long on x86).
MatMulIntegerToFloat, which returns floats, needs another pass over them to round the output.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ferrule.codec import Affine, Range

__all__ = ["StaticLinear"]

_UNSIGNED = 128  # what is added to an int8 code and its zero point


class StaticLinear(nn.Module):
    """int8 codes with a scale a row, between a range for the input and one for the output.

    codes: int8 [in, out]. scales: float32 [out]. bias: int32 [out], in units of input scale times weight scale.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor | None
    input_scale: Tensor
    input_zero: Tensor
    output_scale: Tensor
    output_zero: Tensor

    def __init__(self, codec: Affine, bias: Tensor | None, ranges: tuple[Range, Range]) -> None:
        super().__init__()
        self.columns, self.rows = codec.codes.shape[1], codec.codes.shape[0]
        scales = codec.scales.view(-1)
        whole = None if bias is None else (bias.double() / (scales.double() * ranges[0].scale)).round().to(torch.int32)
        self.register_buffer("codes", codec.codes.t().contiguous())
        self.register_buffer("scales", scales.clone())
        self.register_buffer("zeros", torch.zeros(self.rows, dtype=torch.int8))
        self.register_buffer("bias", whole)
        for name, values in zip(("input", "output"), ranges, strict=True):
            self.register_buffer(f"{name}_scale", torch.tensor(values.scale))
            self.register_buffer(f"{name}_zero", torch.tensor(values.zero_point + _UNSIGNED, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.float().reshape(-1, self.columns)
        source, target = (self.input_scale, self.input_zero), (self.output_scale, self.output_zero)
        codes = _symbolic("QuantizeLinear", (flat, *source), torch.uint8, flat.shape)
        operands = (codes, *source, self.codes, self.scales, self.zeros, self.bias, *target)
        product = _symbolic("com.microsoft::QGemm", operands, torch.uint8, (flat.shape[0], self.rows))
        y = _symbolic("DequantizeLinear", (product, *target), torch.float32, product.shape)
        return y.reshape(*x.shape[:-1], self.rows)


def _symbolic(op: str, operands: tuple[Tensor | None, ...], dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    version = {"version": 1} if "::" in op else {}
    y: Tensor = torch.onnx.ops.symbolic(op, operands, dtype=dtype, shape=shape, **version)
    return y
