"""Our kernels (`ferrule.runtime.torch_ops`) as nodes of an ONNX graph, domain `ferrule`: tensors are a node's inputs,
the rest its attributes, under the names and in the order of the torch op.

    ferrule.token_merge(x, plan, sizes, left) ── ferrule::token_merge(x, plan, sizes){left}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ferrule.errors import LoweringError

__all__ = ["DOMAIN", "translations"]

DOMAIN = "ferrule"
_TYPES = ("tensor(float)", "tensor(int32)", "tensor(uint8)")


def translations() -> dict[Any, Callable[..., Any]]:
    """Torch op -> function that writes its node, for torch.onnx.export's `custom_translation_table`."""
    import torch

    from ferrule.runtime.torch_ops import OPS

    ops = [getattr(torch.ops.ferrule, name).default for name in OPS]
    return {op: _writer(op) for op in ops}


def _writer(op: Any) -> Callable[..., Any]:
    from onnxscript import values

    parameters = [(a.name, str(a.type)) for a in op._schema.arguments]
    tensors = [name for name, kind in parameters if "Tensor" in kind]
    numbers = [name for name, kind in parameters if "Tensor" not in kind]
    write = values.Op(values.Opset(DOMAIN, 1), op._schema.name.partition("::")[2], _schema(op))

    def translate(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip([name for name, _ in parameters], args, strict=False)), **kwargs}
        return write(
            *(given.get(name) for name in tensors), **{name: _number(op, name, given[name]) for name in numbers}
        )

    return translate


def _number(op: Any, name: str, value: Any) -> int | float:
    """Truth values are integers in ONNX; a length that is known at run time only is no number."""
    if not isinstance(value, int | float):
        raise LoweringError(
            "FER-LOW-001",
            f"Target onnx: {name!r} of op {op._schema.name} depends on a dynamic length; a node holds it as a number.",
            "Fix the axis that it depends on.",
        )
    return int(value) if isinstance(value, bool) else value


def _schema(op: Any) -> Any:
    from onnx import defs

    schema = defs.OpSchema
    optional = schema.FormalParameterOption.Optional
    inputs: list[Any] = []
    attributes: list[Any] = []
    for argument in op._schema.arguments:
        kind = str(argument.type)
        if "Tensor" in kind:
            options = {"param_option": optional} if kind.startswith("Optional") else {}
            inputs.append(schema.FormalParameter(argument.name, f"T{len(inputs)}", **options))
        else:
            real = schema.AttrType.FLOAT if kind == "float" else schema.AttrType.INT
            attributes.append(schema.Attribute(argument.name, real, ""))
    outputs = [schema.FormalParameter(f"output{i}", f"O{i}") for i in range(len(op._schema.returns))]
    return schema(
        op._schema.name.partition("::")[2],
        DOMAIN,
        1,
        inputs=inputs,
        outputs=outputs,
        type_constraints=[(each.type_str, list(_TYPES), "") for each in (*inputs, *outputs)],
        attributes=attributes,
    )
