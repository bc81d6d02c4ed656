"""Types of the native kernels (csrc/bindings/).

A tensor is a numpy array, a torch tensor on the CPU, or anything else with Python's buffer protocol or DLPack in main
memory. Nothing is copied. The elements of the last axis must stand side by side; other axes may have any stride that
is not negative, so that slices of rows and columns are taken as they are. `float32 (..., width)` means any number of
leading axes, which the op takes as rows.

`out` takes the result (shape and dtype exactly as told, memory apart from the inputs unless told otherwise) and is then
what the function returns; without it a new numpy array is. NaN and infinities in tensors follow IEEE arithmetic; in
scalar arguments they are refused.

`pool` divides the work over threads, None leaves it to the calling one; `isa` is the highest instruction set to use,
None the active one. Kernels run without the GIL. Every function raises KernelTypeError and KernelValueError, whose text
begins with a code of docs/errors.md.
"""

from collections.abc import Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

class _DLPack(Protocol):
    def __dlpack__(self, *, stream: None = ...) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...

_Tensor: TypeAlias = Buffer | _DLPack
_Cache: TypeAlias = tuple[Any, Any, Any, int, int]  # what quantize_kv returns
_Activation: TypeAlias = Literal["relu", "gelu", "gelu_tanh", "silu", "relu6", "hard_swish"]
_Result: TypeAlias = Any  # `out` where it was given, else a numpy array of the dtype that the function tells

class KernelTypeError(TypeError):
    """FER-KER-001: an argument of the wrong type or dtype."""

class KernelValueError(ValueError):
    """FER-KER-002 shape, -003 memory layout, -004 value, -005 isa, -006 FERRULE_ISA, -007 size, -008 packed weights."""

class ProgramError(RuntimeError):
    """FER-NAT: a native program that cannot be opened or run; the text begins with the code (docs/errors.md)."""

class Program:
    """A lowered model, an artefact of the target native: a file that is read and checked whole, its weights packed for
    this processor. A second thread that runs it meanwhile is refused (FER-NAT-007): open one for each."""

    def __init__(self, path: str, threads: int = 1) -> None:
        """threads: 1 to 1024, the calling one counted in. Raises ProgramError FER-NAT-001 to -003, -006."""

    @property
    def entries(self) -> dict[str, tuple[list[str], list[str]]]:
        """Entry point -> names of its inputs and of its outputs, in order."""

    @property
    def parts(self) -> dict[str, list[str]]:
        """`ops` and `kernels` that a build of the library needs to run this (tools/native_parts.py), by name."""

    def run(self, entry: str, inputs: Sequence[_Tensor]) -> list[NDArray[Any]]:
        """The outputs, new arrays. inputs: contiguous, in order. Raises ProgramError FER-NAT-004 to -008."""

    def profile(
        self, entry: str, inputs: Sequence[_Tensor]
    ) -> tuple[list[NDArray[Any]], list[tuple[str, str, float]], float]:
        """The outputs; (op, op with source line, seconds) of the steps as they ran; seconds of the whole call."""

    def memory(self, entry: str) -> dict[str, int]:
        """Bytes: `weights` of all entry points, packed or as they are; of the last run `values`, what the plan takes,
        `live`, the most that is alive at once, and `scratch`."""

    def reset(self) -> None:
        """Put all states back to their first values."""

    def close(self) -> None:
        """Free the program, after a call that is at work."""

class Pool:
    """Threads that run kernels. May be shared by callers: one that finds it at work computes alone. Use it as a context
    manager, or `close` it; the last reference ends its threads as well. A forked child must make its own."""

    def __init__(self, threads: int) -> None:
        """threads: 1 to 1024, the calling one counted in."""

    @property
    def threads(self) -> int:
        """How many threads there are, the calling one counted in."""

    def close(self) -> None:
        """End the threads; a call that is at work ends first. Calls with a closed pool are refused (FER-KER-004)."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

class PackedConv:
    """A convolution, packed once for the kernel of one instruction set, then run on any images.

    Where every channel is a group of its own, conv_depthwise and PackedDepthwise are faster.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Raises TypeError: layers come from `pack`."""

    @staticmethod
    def pack(
        weight: _Tensor,
        scales: _Tensor | None = None,
        *,
        kind: Literal["float32", "affine8", "affine4", "lookup4", "lookup2"] = "float32",
        input: Literal["float32", "dynamic8", "static8"] = "float32",
        table: _Tensor | None = None,
        bias: _Tensor | None = None,
        group: int = 0,
        sparse24: bool = False,
        input_scale: float | None = None,
        input_zero: int = 0,
        groups: int = 1,
        isa: str | None = None,
    ) -> PackedConv:
        """Pack weight (output channels, kernel height, kernel width, input channels of one group), C-contiguous.

        groups: parts that the channels are divided into, each seen by its own output channels alone. All else is as in
        PackedLinear.pack: rows are output channels, columns the other three axes as they lie. Groups share no
        palette: the `group` of lookups divides the output channels of each, and 0 means a palette for each. "dynamic8"
        quantizes image by image, or pixel by pixel where the kernel is 1 x 1.
        """

    def run(
        self,
        input: _Tensor,
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        activation: _Activation | None = None,
        residual: _Tensor | None = None,
        output_scale: float | None = None,
        output_zero: int = 0,
        out: _Tensor | None = None,
        pool: Pool | None = None,
    ) -> _Result:
        """activation(convolution + bias) + residual, as (batch, height, width, output channels).

        input: float32 (batch, height, width, channels), pixels evenly spaced, or contiguous where they are quantized
        here and the kernel is not 1 x 1. Layers of "static8" also take codes: int8 of their range, or uint8, the same
        plus 128. The window is told as in conv_depthwise, the result as in PackedLinear.run; `out` may be `residual`.
        """

    @property
    def info(self) -> dict[str, Any]:
        """As PackedLinear.info, with `depth` that of one group, the number of groups, and kernel (height, width)."""

    @property
    def isa(self) -> str:
        """The instruction set whose kernel reads it."""

class PackedDepthwise:
    """A convolution of 8-bit codes with a kernel for each channel, packed for every instruction set at once."""

    def __init__(self, codes: _Tensor, scales: _Tensor, bias: _Tensor | None = None) -> None:
        """codes: int8 (kernel height, kernel width, channels), contiguous; scales, bias: float32 (channels,)."""

    def run(
        self,
        input: _Tensor,
        *,
        input_scale: float,
        input_zero: int = 0,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        activation: _Activation | None = None,
        residual: _Tensor | None = None,
        output_scale: float | None = None,
        output_zero: int = 0,
        out: _Tensor | None = None,
        pool: Pool | None = None,
        isa: str | None = None,
    ) -> _Result:
        """activation(convolution + bias) + residual of input_scale * (input - input_zero).

        input: uint8 or int8 (batch, height, width, channels), pixels evenly spaced; input_zero is one of its codes. The
        window is told as in conv_depthwise, the result as in PackedLinear.run.
        """

class PackedLinear:
    """A linear layer, packed once for the kernel of one instruction set, then run on any number of rows.

    Not for use after its file was packed elsewhere without its instruction set: `load` refuses it (FER-KER-008).
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Raises TypeError: layers come from `pack` and `load`."""

    @staticmethod
    def pack(
        weight: _Tensor,
        scales: _Tensor | None = None,
        *,
        kind: Literal["float32", "affine8", "affine4", "lookup4", "lookup2"] = "float32",
        input: Literal["float32", "dynamic8", "static8"] = "float32",
        table: _Tensor | None = None,
        bias: _Tensor | None = None,
        group: int = 0,
        sparse24: bool = False,
        input_scale: float | None = None,
        input_zero: int = 0,
        isa: str | None = None,
    ) -> PackedLinear:
        """Pack weight (rows, depth), C-contiguous as all arguments here; rows are output features.

        kind, and what weight holds: "float32": float32 values; "affine8": int8 codes; "affine4": int8 codes from -8 to
        7; "lookup4" and "lookup2": uint8 indices below 16 and 4 into `table`.
        scales: float32 (rows,), or with affine4 and a group (rows, depth / group, rounded up), then exactly bfloat16.
        group: affine4: columns that share a scale; lookups: rows that share a palette; 0: all of them.
        table: float32 (palettes, 16 or 4). bias: float32 (rows,).
        input: how rows are multiplied: "float32" as they are, "dynamic8" quantized to 8 bits row by row, "static8" by
        input_scale and input_zero (-128 to 127). sparse24: at most two of four neighbouring weights are other than 0.
        Raises KernelTypeError (FER-KER-001) for combinations that there is no kernel for, KernelValueError
        (FER-KER-004) for codes out of range and values that are not finite.
        """

    @staticmethod
    def load(path: str | PathLike[str]) -> PackedLinear:
        """Read what `save` wrote. Raises OSError, and KernelValueError FER-KER-008 for a file that is damaged, of
        another version, or for an instruction set that cannot be used here."""

    def save(self, path: str | PathLike[str]) -> None:
        """Write the packed layer beside its place, then rename it: the file is whole or absent. Raises OSError."""

    def run(
        self,
        input: _Tensor,
        *,
        activation: _Activation | None = None,
        residual: _Tensor | None = None,
        output_scale: float | None = None,
        output_zero: int = 0,
        out: _Tensor | None = None,
        pool: Pool | None = None,
    ) -> _Result:
        """activation(input . weight^T + bias) + residual for input float32 (..., depth), as (..., rows).

        The result is float32; with output_scale (above 0) int8, round(y / output_scale) + output_zero clamped.
        residual: float32 (..., rows); `out` may be `residual`.
        """

    @property
    def info(self) -> dict[str, Any]:
        """kind, input, sparse24, rows, depth, group, input_scale, input_zero, op (its kernel), isa, bytes, and
        palette_error: with lookups and 8-bit inputs the largest rounding of an entry, relative to the largest entry."""

    @property
    def isa(self) -> str:
        """The instruction set whose kernel reads it."""

def isas() -> list[str]:
    """Instruction sets that are compiled in and that this CPU runs, weakest first."""

def kernels() -> list[tuple[str, str]]:
    """Rows (op, isa) of the kernel table, those that this CPU cannot run included."""

def active_isa() -> str:
    """Instruction set in use: `FERRULE_ISA` where it is set, else the strongest that this CPU runs.

    The variable is read once, at the first call. Raises KernelValueError (FER-KER-006) if it names an
    instruction set that is unknown or cannot be used here.
    """

def activate(
    input: _Tensor,
    kind: Literal["relu", "relu6", "hard_swish", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "exp"],
    *,
    factor: _Tensor | None = None,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """f(input), or f(input) * factor: the gate of a gated layer and its other product.

    input, factor, out: float32 (..., width), one shape; `out` may be `input` or `factor`. "gelu" is the one by the
    error function. Errors are at most 1e-6 and 5e-7 of the value; csrc/include/ferrule/activate.h has them by kind.
    """

def conv_depthwise(
    input: _Tensor,
    weight: _Tensor,
    bias: _Tensor | None = None,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    activation: _Activation | None = None,
    residual: _Tensor | None = None,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """activation(convolution + bias) + residual with a kernel for each channel, channels last.

    input: float32 (batch, height, width, channels), pixels evenly spaced; weight: float32 (kernel height, kernel
    width, channels), contiguous; bias: float32 (channels,). stride, dilation: one number or (height, width). padding,
    of zeros: one number, (height, width), or (top, bottom, left, right). residual has the result's shape; `out` may be
    `residual`.
    """

def embedding(
    indices: _Tensor,
    table: _Tensor,
    *,
    kind: Literal["float32", "affine8", "affine4", "lookup4", "lookup2"] = "float32",
    width: int | None = None,
    scales: _Tensor | None = None,
    palettes: _Tensor | None = None,
    group: int = 0,
    output_scale: float = 1.0,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """output_scale * rows of a coded table: float32 (..., width) for indices int32 or int64 (...).

    kind, and the rows of table, contiguous: "float32" (rows, width); "affine8" int8 (rows, width); "affine4" uint8
    (rows, width / 2), two's complement, the low nibble first; "lookup4" uint8 (rows, width / 2), "lookup2" uint8
    (rows, width / 4), lowest bits first. width: needed with packed codes. scales: float32 (rows,), with affine kinds
    and a group (rows, width / group). palettes: float32 (palettes, 16 or 4). group: affine: columns that share a scale,
    a multiple of 16; lookups: rows that share a palette; 0: all. An index beyond the table is refused (FER-KER-004).
    """

def layer_norm(
    input: _Tensor,
    weight: _Tensor | None = None,
    bias: _Tensor | None = None,
    *,
    residual: _Tensor | None = None,
    epsilon: float = 1e-5,
    out: _Tensor | None = None,
    sum: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """(x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias along the last axis of x = input + residual.

    input, residual, out, sum: float32 (..., width); weight, bias: float32 (width,). The variance is the biased one.
    `sum` takes x itself and may be `residual`; `out` may be `input`. epsilon: 0 or more.
    """

def mean_tokens(
    input: _Tensor,
    mask: _Tensor | None = None,
    *,
    normalize: bool = False,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """Mean over the tokens of a text that its mask keeps: float32 (batch, width) for input (batch, tokens, width).

    mask: bool or uint8 (batch, tokens), 0 at padding; None keeps all. normalize: divided by its length, or by 1e-12
    where that is shorter. A text without tokens becomes zeros.
    """

def peak(
    kind: Literal["fma", "dot_i8", "dot_bf16", "read"],
    units: int = 1,
    *,
    memory: _Tensor | None = None,
    isa: str | None = None,
) -> float:
    """Do as much as a core can, on the calling thread, and return how much that was; the caller takes the time.

    "fma": float32 multiply-adds from registers, "dot_i8": int8 products, "dot_bf16": bfloat16 products, which only
    the instruction set "avx512_bf16" has; all count 2 operations each, a unit is 4096 rounds of the instructions.
    "read": bytes loaded from `memory`, uint8 (bytes,), a multiple of 1024 at an address that is a multiple of 64; a
    unit is one pass over it. Returns 0 where the instruction set lacks the kind.
    """

def pooling(
    input: _Tensor,
    kind: Literal["max", "average"],
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_padding: bool = False,
    layout: Literal["channels_last", "channels_first"] = "channels_last",
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """The maximum or the average of each window; the global one has a kernel as large as the image.

    input: float32 (batch, height, width, channels), pixels evenly spaced, or, with channels first, (batch, channels,
    height, width), contiguous; the result is laid out alike. kernel: one number or (height, width), as is stride, None
    for the kernel; padding, dilation as in conv_depthwise, for averages a dilation of 1 only. ceil_mode: the last
    window may reach beyond the padding (PyTorch's rule). Padding is no pixel: a maximum without pixels is -inf, an
    average 0. count_padding: averages divide by the taps within image and padding. NaN becomes the maximum.
    """

def pooling_i8(
    input: _Tensor,
    kind: Literal["max", "average"],
    kernel: int | Sequence[int],
    *,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    count_padding: bool = False,
    padding_code: int = 0,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """pooling of int8 codes, channels last; the result is int8 of the input's scale and zero point.

    Averages are rounded to the nearest code, to even in the middle. padding_code: the code of zero, -128 to 127, which
    counted padding has, and an average without pixels; a maximum without pixels is -128. A kernel of at most 32768
    taps.
    """

def quantize_rows(
    input: _Tensor,
    *,
    signed: bool = False,
    scale: float | None = None,
    zero: int = 0,
    out: _Tensor | None = None,
    scales: _Tensor | None = None,
    zeros: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> tuple[_Result, _Result, _Result]:
    """(codes, scales, zeros) with input ~ scales * (codes - zeros), a scale and a zero point for each row.

    input: float32 (..., width). codes: uint8, or int8 where signed, of the same shape; scales: float32 (...), zeros:
    int32 (...), contiguous. Each row's range is that of its values and zero; with `scale` (above 0) all rows have that
    scale and the zero point `zero`, -128 to 127 among signed codes. A row with NaN or infinities gets the scale NaN.
    """

def rms_norm(
    input: _Tensor,
    weight: _Tensor | None = None,
    *,
    residual: _Tensor | None = None,
    epsilon: float = 1e-5,
    out: _Tensor | None = None,
    sum: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """x / sqrt(mean(x * x) + epsilon) * weight along the last axis of x = input + residual.

    Shapes, `sum` and `out` as in layer_norm.
    """

def rope(
    input: _Tensor,
    cosines: _Tensor,
    sines: _Tensor,
    *,
    positions: _Tensor | None = None,
    first_position: int = 0,
    pairs: Literal["halves", "neighbours"] = "halves",
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """Rotary position embedding of input float32 (tokens, heads, width); `out` may be `input`.

    cosines, sines: float32 (positions, half), contiguous, half at most width / 2; features from 2 * half on are copied.
    positions: int32 (tokens,), rows of the tables; None: first_position and those that follow. pairs: "halves" turns
    feature i with i + half (Llama, GPT-NeoX), "neighbours" 2 i with 2 i + 1 (GPT-J).
    """

def rope_tables(
    rows: int,
    half: int,
    *,
    theta: float = 10000.0,
    frequencies: _Tensor | None = None,
    magnitude: float = 1.0,
    positions: _Tensor | None = None,
    first_position: int = 0,
    pool: Pool | None = None,
    isa: str | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(cosines, sines) of position * frequency, times magnitude: float32 (rows, half), computed in double.

    frequencies: float64 (half,) in radians a position; None: theta ** (-i / half). positions: int32 (rows,); None:
    first_position and those that follow.
    """

def softmax(
    input: _Tensor,
    *,
    mask: _Tensor | None = None,
    scale: float = 1.0,
    logarithm: bool = False,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """Softmax of scale * input + mask along the last axis, or its logarithm.

    input, out: float32 (..., width); mask: the same, or (width,) for all rows. scale: above 0. A row of -inf becomes
    zeros (-inf for the logarithm). `out` may be `input`.
    """

def hadamard(
    input: _Tensor,
    *,
    scale: float | None = None,
    transposed: bool = False,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """scale * H . row for each row of input float32 (..., width), H the Hadamard matrix of that width.

    width: 1, 12, 20, 28, 36 or 60 times a power of two. scale: 1 / sqrt(width) where None, which makes it a rotation.
    transposed: by the transpose of H, which undoes it. `out` may be `input`.
    """

def rational(
    input: _Tensor,
    numerator: _Tensor,
    denominator: _Tensor,
    *,
    form: Literal["terms", "sum"] = "terms",
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """P(x) / Q(x) of each element of input float32 (..., width), whose channels are divided into groups.

    numerator: float32 (groups, 6), a0 to a5 of P; denominator: float32 (groups, 4), b1 to b4 of Q = 1 + |b1||x| + ...
    ("terms") or 1 + |b1 x + ...| ("sum"). groups divides width. `out` may be `input`.
    """

def selective_scan(
    input: _Tensor,
    delta: _Tensor,
    a: _Tensor,
    b: _Tensor,
    c: _Tensor,
    *,
    delta_bias: _Tensor | None = None,
    skip: _Tensor | None = None,
    gate: _Tensor | None = None,
    initial_state: _Tensor | None = None,
    final_state: _Tensor | None = None,
    softplus: bool = False,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """The selective scan of Mamba: h = exp(d a) h + d b x, y = (c . h + skip x) * silu(gate), step by step.

    input, delta, gate, out: float32 (batch, length, channels); b, c: (batch, length, states) or (batch, length, groups,
    states), groups dividing channels; all of any strides, so that transposed views are taken. a: (channels, states),
    delta_bias, skip: (channels,). d = delta + delta_bias, through softplus where asked. initial_state, and final_state,
    which is written: (batch, channels, states), contiguous; both may be one, as may `out` and input, delta or gate.
    """

def token_match(
    metric: _Tensor,
    count: int,
    *,
    sizes: _Tensor | None = None,
    counts: _Tensor | None = None,
    protected_tokens: int = 0,
    pool: Pool | None = None,
    isa: str | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(plan, left): for each token the position after merging of the one that it goes into, and how many are left.

    metric: float32 (batch, heads, tokens, width), averaged over heads. The `count` most similar tokens at even
    positions go into their partners at odd ones; counts: int32 (batch,) instead, for each entry its own. sizes: float32
    (batch, tokens), 0 at padding. The first protected_tokens take no part. plan: int32 (batch, tokens), left: (batch,).
    """

def token_merge(
    input: _Tensor,
    plan: _Tensor,
    left: int,
    *,
    sizes: _Tensor | None = None,
    out: _Tensor | None = None,
    merged_sizes: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> tuple[_Result, _Result]:
    """(merged, merged sizes): means, weighted by sizes, of the tokens that a plan sends to one place.

    input: float32 (batch, tokens, width); plan: int32 (batch, tokens) below left; sizes: float32 (batch, tokens), None
    for ones. The results: float32 (batch, left, width) and (batch, left).
    """

def token_unmerge(
    input: _Tensor,
    plan: _Tensor,
    *,
    out: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """Each token gets what it went into: float32 (batch, tokens, width) from input (batch, left, width).

    plan: int32 (batch, tokens) below left.
    """

def attention(
    queries: _Tensor,
    keys: _Tensor | _Cache,
    values: _Tensor | _Cache,
    *,
    scale: float | None = None,
    causal: bool = False,
    bias: _Tensor | None = None,
    slopes: _Tensor | None = None,
    sizes: _Tensor | None = None,
    key_begins: _Tensor | None = None,
    key_ends: _Tensor | None = None,
    out: _Tensor | None = None,
    log_sums: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Result:
    """softmax(scale * q . k + bias + slopes * distance + log(sizes)) . v, exact, in memory that tokens do not let grow.

    queries, out: float32 (batch, query heads, queries, head size); keys, values: (batch, kv heads, keys, head size),
    kv heads dividing query heads, as float32 or as quantize_kv gives them; axes in any order in memory, the last one
    contiguous. scale: 1 / sqrt(head size) where None. causal: the last query sees all keys. bias: float32 (batch, query
    heads, queries, keys), broadcast views taken as they are; slopes: (query heads,), ALiBi; sizes: (batch, keys),
    tokens that a key stands for. key_begins, key_ends: int32 (batch,), the range of keys that are no padding.
    log_sums takes
    log(sum(exp(logit))): (batch, query heads, queries). A query that sees no key gets zeros.
    """

def quantize_kv(
    input: _Tensor,
    *,
    bits: Literal[8, 4, 2] = 8,
    group: int = 0,
    symmetric: bool = False,
    clip: float = 1.0,
    out: _Tensor | None = None,
    scales: _Tensor | None = None,
    offsets: _Tensor | None = None,
    pool: Pool | None = None,
    isa: str | None = None,
) -> _Cache:
    """(codes, scales, offsets, bits, group) of keys or values, with x ~ scale * code + offset.

    input: float32 (batch, heads, tokens, head size). codes: int8 of that shape, or uint8 with 2 or 4 codes a byte along
    the last axis; scales, offsets: float32 (batch, heads, tokens, groups). group: channels that share a scale, a
    multiple of 16, or 0 for the whole head. symmetric: no offsets, 8 bits only. clip: above 0, at most 1: ranges are
    cut to that share of the greatest values. `out`, `scales` and `offsets` may be slices of a longer cache.
    """

def checksum(bytes: _Tensor) -> int:
    """Of an array in the file of a program, the one that packed layers have; contiguous memory, any dtype."""
