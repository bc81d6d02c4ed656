"""The .tflite file itself: marks become native ops with our codes, and the file is written and read back.

before   CUSTOM "custom_call.ferrule_site" (x)
after    FULLY_CONNECTED (x, int8 or int4 codes with scales, bias)          form `dynamic`
         DEQUANTIZE (int8 codes) and FULLY_CONNECTED (x, its output, bias)  form `dequantize`
         EMBEDDING_LOOKUP (indices, int8 or int4 codes with scales)         form `lookup`
         QUANTIZE, FULLY_CONNECTED on int8 with an int32 bias, DEQUANTIZE   form `static`
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.codec import Affine
from ferrule.converters.litert_sites import BLOCK, MARK, choose_form
from ferrule.converters.static_int8 import fit_kernels
from ferrule.errors import LoweringError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.codec import Range
    from ferrule.converters.coded_sites import CodedSite

__all__ = ["op_name", "place_sites", "read_model", "rename_signatures", "write_model"]

# Schema versions of the ops as we use them: a runtime that is too old says so when it opens the file.
_VERSIONS = {"FULLY_CONNECTED": 12, "DEQUANTIZE": 5, "EMBEDDING_LOOKUP": 4, "QUANTIZE": 1}
_FLOAT_LINEAR = 6
_PLAIN_DEQUANTIZE = 2


def read_model(content: bytes | NDArray[np.uint8]) -> Any:
    """The file as the schema's tree of objects; large buffers are views of `content`."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def op_name(model: Any, op: Any) -> str:
    """`FULLY_CONNECTED`, …; a custom op's own code."""
    from ai_edge_litert import schema_py_generated as schema

    code = model.operatorCodes[op.opcodeIndex]
    if code.customCode:
        return str(code.customCode, "utf-8")
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return str(next(name for name, value in vars(schema.BuiltinOperator).items() if value == number))


def place_sites(model: Any, sites: Sequence[CodedSite]) -> None:
    """Put the native op in the place of every mark; raises LoweringError FER-LOW-001 for any other custom op."""
    for graph in model.subgraphs:
        placing = _Placing(model, graph)
        operators = []
        for op in graph.operators:
            if not model.operatorCodes[op.opcodeIndex].customCode:
                operators.append(op)
            elif op_name(model, op) == MARK:
                number = int(bytes(op.customOptions).decode())
                operators += placing.native_ops(op, number, sites[number])
            else:
                raise LoweringError(
                    "FER-LOW-001",
                    f"litert: the toolkit left the op {op_name(model, op)!r}, which no LiteRT runtime has.",
                    "Replace the op in the model by others.",
                )
        graph.operators = operators
    _drop_unused_codes(model)


@dataclass(frozen=True)
class _Placing:
    """The edit of one subgraph; tensors of a site are made once and shared by its ops."""

    model: Any
    graph: Any
    made: dict[int, tuple[int, int]] = field(default_factory=dict)
    quantized: dict[tuple[int, Range], int] = field(default_factory=dict)

    def native_ops(self, op: Any, number: int, site: CodedSite) -> list[Any]:
        form, site = choose_form(site), fit_kernels(site)
        if number not in self.made:
            self.made[number] = (self._codes(site), self._bias(site))
        codes, bias = self.made[number]
        if form == "static":
            return self._static(op, codes, bias, site)
        if form == "lookup":
            version = _VERSIONS["EMBEDDING_LOOKUP"]
            return [self._operator("EMBEDDING_LOOKUP", version, [op.inputs[0], codes], op.outputs)]
        extra = []
        if form == "dequantize":
            weight = self._tensor(f"{site.name}.weight", site.codec.codes.shape, "FLOAT32", 0)
            version = _VERSIONS["DEQUANTIZE"]
            extra = [self._operator("DEQUANTIZE", version, [codes], [weight])]
            codes = weight
        return [*extra, self._linear(op, codes, bias, float_weight=form == "dequantize")]

    def _static(self, op: Any, codes: int, bias: int, site: CodedSite) -> list[Any]:
        """A layer on int8; layers that read one tensor by one range share its quantized copy."""
        assert site.ranges is not None
        source, target = site.ranges
        extra = []
        if (op.inputs[0], source) not in self.quantized:
            shape = self.graph.tensors[op.inputs[0]].shape
            self.quantized[op.inputs[0], source] = self._int8(f"{site.name}.input", shape, source)
            outputs = [self.quantized[op.inputs[0], source]]
            extra.append(self._operator("QUANTIZE", _VERSIONS["QUANTIZE"], [op.inputs[0]], outputs))
        product = self._int8(f"{site.name}.output", self.graph.tensors[op.outputs[0]].shape, target)
        inputs = [self.quantized[op.inputs[0], source], codes, *([bias] if bias >= 0 else [])]
        linear = self._linear_op(_VERSIONS["FULLY_CONNECTED"], inputs, [product])
        return [*extra, linear, self._operator("DEQUANTIZE", _PLAIN_DEQUANTIZE, [product], op.outputs)]

    def _linear(self, op: Any, weight: int, bias: int, float_weight: bool) -> Any:
        version = _FLOAT_LINEAR if float_weight else _VERSIONS["FULLY_CONNECTED"]
        inputs = [op.inputs[0], weight, bias] if bias >= 0 else [op.inputs[0], weight]
        made = self._linear_op(version, inputs, op.outputs)
        # Without XNNPACK the kernel quantizes activations symmetrically unless told otherwise.
        made.builtinOptions.asymmetricQuantizeInputs = not float_weight
        return made

    def _linear_op(self, version: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        from ai_edge_litert import schema_py_generated as schema

        made = self._operator("FULLY_CONNECTED", version, inputs, outputs)
        made.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        made.builtinOptions = schema.FullyConnectedOptionsT()
        made.builtinOptions.keepNumDims = True
        return made

    def _operator(self, name: str, version: int, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
        from ai_edge_litert import schema_py_generated as schema

        op = schema.OperatorT()
        op.opcodeIndex = _op_code(self.model, getattr(schema.BuiltinOperator, name), version)
        op.inputs = np.array(inputs, np.int32)
        op.outputs = np.array(outputs, np.int32)
        return op

    def _tensor(self, name: str, shape: Sequence[int], dtype: str, buffer: int) -> int:
        from ai_edge_litert import schema_py_generated as schema

        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = np.array(shape, np.int32)
        tensor.type = getattr(schema.TensorType, dtype)
        tensor.buffer = buffer
        tensor.hasRank = True
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _bias(self, site: CodedSite) -> int:
        if site.bias is None:
            return -1
        bias = site.bias.detach().float().numpy()
        if site.ranges is not None:
            scales = site.codec.scales.numpy().reshape(-1) * np.float32(site.ranges[0].scale)
            whole = np.rint(bias.astype(np.float64) / scales).astype(np.int32)
            index = self._tensor(f"{site.name}.bias", whole.shape, "INT32", _add_buffer(self.model, whole))
            return self._scaled(index, scales, np.zeros(len(scales), np.int64))
        return self._tensor(f"{site.name}.bias", bias.shape, "FLOAT32", _add_buffer(self.model, bias))

    def _int8(self, name: str, shape: Sequence[int], values: Range) -> int:
        """An activation of int8 in a range."""
        index = self._tensor(name, shape, "INT8", 0)
        return self._scaled(index, np.array([values.scale], np.float32), np.array([values.zero_point], np.int64))

    def _scaled(self, index: int, scales: NDArray[np.float32], zeros: NDArray[np.int64]) -> int:
        """The same tensor with scales: one, or one for each row."""
        from ai_edge_litert import schema_py_generated as schema

        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = scales, zeros
        quantization.quantizedDimension = 0
        self.graph.tensors[index].quantization = quantization
        return index

    def _codes(self, site: CodedSite) -> int:
        from ai_edge_litert import schema_py_generated as schema

        codec = site.codec
        assert isinstance(codec, Affine)
        codes = codec.codes.numpy()
        if codec.group:
            codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % BLOCK)))
        packed = _pack_nibbles(codes) if codec.bits == 4 else codes
        dtype = "INT4" if codec.bits == 4 else "INT8"
        index = self._tensor(f"{site.name}.codes", codes.shape, dtype, _add_buffer(self.model, packed))
        if not codec.group:
            scales = codec.scales.numpy().reshape(-1)
            return self._scaled(index, scales, np.zeros(len(scales), np.int64))
        half = codec.scales.numpy().astype(np.float16)
        details = schema.BlockwiseQuantizationT()
        details.scales = self._tensor(f"{site.name}.scales", half.shape, "FLOAT16", _add_buffer(self.model, half))
        details.zeroPoints = -1
        details.blockSize = codec.group
        quantization = schema.QuantizationParametersT()
        quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        quantization.details = details
        quantization.quantizedDimension = 0
        self.graph.tensors[index].quantization = quantization
        return index


def _pack_nibbles(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two 4-bit codes a byte in row-major order, the first in the low half."""
    flat = np.pad(codes.reshape(-1), (0, codes.size % 2)).view(np.uint8)
    low, high = flat[::2], flat[1::2]
    packed: NDArray[np.uint8] = (low & np.uint8(0x0F)) | (high << np.uint8(4))
    return packed


def _op_code(model: Any, builtin: int, version: int) -> int:
    from ai_edge_litert import schema_py_generated as schema

    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == builtin and code.version == version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _add_buffer(model: Any, data: NDArray[Any]) -> int:
    from ai_edge_litert import schema_py_generated as schema

    buffer = schema.BufferT()
    buffer.data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _drop_unused_codes(model: Any) -> None:
    used = sorted({op.opcodeIndex for graph in model.subgraphs for op in graph.operators})
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    for graph in model.subgraphs:
        for op in graph.operators:
            op.opcodeIndex = used.index(op.opcodeIndex)


def rename_signatures(model: Any, names: Mapping[str, tuple[Sequence[str], Sequence[str]]]) -> None:
    """Give inputs and outputs their own names and order; the toolkit calls them args_0, output_0, …"""
    for signature in model.signatureDefs:
        inputs, outputs = names[signature.signatureKey.decode()]
        for maps, wanted in ((signature.inputs, inputs), (signature.outputs, outputs)):
            maps.sort(key=lambda entry: int(entry.name.decode().rpartition("_")[2]))
            for entry, name in zip(maps, wanted, strict=True):
                entry.name = name.encode()


def write_model(model: Any, path: Path) -> None:
    """Write the file: equal buffers once, each aligned to 16 bytes, as the runtime maps them."""
    import flatbuffers  # type: ignore[import-untyped]

    _share_buffers(model)
    # The toolkit's guess at the oldest runtime is from before our ops; their versions say what is needed.
    model.metadata = [entry for entry in model.metadata or [] if entry.name != b"min_runtime_version"]
    model.buffers = [_Aligned(buffer.data) for buffer in model.buffers]
    size = sum(len(buffer.data) + 64 for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(size + (1 << 20))
    builder.Finish(model.Pack(builder), b"TFL3")
    with path.open("wb") as file:
        file.write(memoryview(builder.Bytes)[builder.Head() :])


def _share_buffers(model: Any) -> None:
    """Keep one of equal buffers, and none that no tensor or metadata points to; buffer 0 stays the empty one."""
    owners = [tensor for graph in model.subgraphs for tensor in graph.tensors] + list(model.metadata or [])
    kept: list[Any] = [model.buffers[0]]
    places: dict[bytes, int] = {}
    for owner in owners:
        buffer = model.buffers[owner.buffer]
        if buffer.data is None or len(buffer.data) == 0:
            owner.buffer = 0
            continue
        key = hashlib.sha256(_raw(buffer.data)).digest()
        if key not in places:
            places[key] = len(kept)
            kept.append(buffer)
        owner.buffer = places[key]
    model.buffers = kept


def _raw(data: Any) -> memoryview:
    return memoryview(np.ascontiguousarray(data).data).cast("B")


@dataclass(frozen=True)
class _Aligned:
    """A buffer that packs itself at a multiple of 16 bytes; the schema's Python class does not."""

    data: Any

    def Pack(self, builder: Any) -> int:  # noqa: N802  the name that the schema's classes call
        from ai_edge_litert import schema_py_generated as schema

        vector = None
        if self.data is not None and len(self.data):
            raw = _raw(self.data)
            builder.StartVector(1, len(raw), 16)
            builder.head -= len(raw)
            builder.Bytes[builder.head : builder.head + len(raw)] = raw
            vector = builder.EndVector()
        schema.BufferStart(builder)
        if vector is not None:
            schema.BufferAddData(builder, vector)
        end: int = schema.BufferEnd(builder)
        return end
