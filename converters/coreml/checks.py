"""What Core ML refuses, told before the conversion (device, names, ops, states) and after it (declared shapes)."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ferrule.converters.coreml.codecs import formats_of
from ferrule.converters.coreml.mil import MilProgram
from ferrule.converters.coreml.rows import misdeclared
from ferrule.converters.coreml.torch_ops import decompose
from ferrule.converters.source_lines import source_line
from ferrule.device_profiles import DeviceProfile, check_format, choose_target
from ferrule.errors import DeviceError, LoweringError
from ferrule.program import Signature

if TYPE_CHECKING:
    from torch import fx
    from torch.export import ExportedProgram

    from ferrule.model import Captured

__all__ = ["HALF_MAX", "bound_constants", "check_declared", "check_device", "check_graph", "exceeds_half"]

HALF_MAX = 65504.0
"""The largest finite float16."""

_NEEDS = {"iOS": (18,), "macOS": (15,)}  # int4 and block scales; older systems have neither


def check_device(device: DeviceProfile, target: str, graphs: Mapping[str, Captured]) -> None:
    """Refuse a device without Core ML, a system before iOS 18 or macOS 15, or a format that it cannot hold.

    Raises DeviceError FER-DEV-002.
    """
    from ferrule.converters.coded_sites import coded_sites

    choose_target(device, target)
    system, assumed = device.facts["os"].text(), device.facts["os_assumed"].text()
    needed = _NEEDS.get(system, ())
    if tuple(int(part) for part in assumed.split(".")) < needed:
        least = ".".join(map(str, needed))
        raise DeviceError(
            "FER-DEV-002",
            f"{device.title} ('{device.name}') cannot take target '{target}': the package needs {system} "
            f"{least}, and the profile assumes {system} {assumed}.",
            f"Choose a device that runs {system} {least} or later.",
        )
    check_format(device, target, "float16")
    for site in (site for graph in graphs.values() for site in coded_sites(graph.program)):
        for name in formats_of(site):
            check_format(device, target, name)


def check_graph(name: str, graph: Captured) -> ExportedProgram:
    """The decomposed graph, once its names, outputs, buffers and ops are known to have a place in Core ML.

    Raises LoweringError FER-LOW-001, and FER-LOW-004 for a buffer that cannot become a state.
    """
    program = decompose(graph.program)
    _check_names(name, graph.signature)
    _check_outputs(name, program)
    _check_states(name, program)
    _check_ops(name, program)
    return program


def _check_names(name: str, signature: Signature) -> None:
    names = [name, *(spec.name for spec in (*signature.inputs, *signature.outputs))]
    bad = [n for n in names if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", n)]
    twice = [n for n, count in Counter(names[1:]).items() if count > 1]
    if bad or twice:
        raise LoweringError(
            "FER-LOW-001",
            f"Entry point {name!r} uses {(bad or twice)[0]!r} as a name; Core ML takes letters, digits and "
            "underscores, and each name once among inputs and outputs.",
            "Rename it: `EntryPoint.outputs` gives names to outputs.",
        )


def _check_outputs(name: str, program: ExportedProgram) -> None:
    """Core ML cannot hand an input through, nor one value out under two names."""
    results = list(program.graph_signature.user_outputs)
    odd = [r for r in results if r in program.graph_signature.user_inputs or results.count(r) > 1]
    if odd:
        raise LoweringError(
            "FER-LOW-001",
            f"Entry point {name!r} returns {odd[0]!r} as it came in, or twice; Core ML needs a value of its own "
            "for each output.",
            "Leave it out of what the model returns.",
        )


def _check_states(name: str, program: ExportedProgram) -> None:
    """Refuse mutable buffers that a state, float16 and zero at first, cannot be."""
    for target in program.graph_signature.buffers_to_mutate.values():
        value = program.state_dict.get(target, program.constants.get(target))
        if value is None or not value.is_floating_point() or bool(value.any()):
            raise LoweringError(
                "FER-LOW-004",
                f"Entry point {name!r} changes its buffer {target!r}; Core ML states are float16, zero at first.",
                "Begin with a float buffer of zeros, or pass it as an input and return it as an output.",
            )


def _check_ops(name: str, program: ExportedProgram) -> None:
    """Name every op for which coremltools has no translation, with its line."""
    from coremltools.converters.mil.frontend.torch import is_torch_fx_node_supported

    missing: dict[str, str] = {}
    for node in program.graph.nodes:
        if node.op == "call_function" and not is_torch_fx_node_supported(node):
            missing.setdefault(str(node.target), source_line(node))
    if missing:
        found = "; ".join(f"{op}{f' at {line}' if line else ''}" for op, line in missing.items())
        raise LoweringError(
            "FER-LOW-001",
            f"Entry point {name!r} has ops that coremltools {version('coremltools')} lacks: {found}.",
            "Rewrite that part of the model with other ops, or choose another target.",
        )


def check_declared(programs: Iterable[MilProgram]) -> None:
    """Refuse finished programs with an op whose declared shape contradicts MIL's definition.

    Devices have been reported to compute wrong values there (apple/coremltools issue 2544). Raises LoweringError
    FER-LOW-001, naming every such op.
    """
    functions = [function for program in programs for function in program.functions.values()]
    found = [f"{name!r} of {function.name!r}: {why}" for function in functions for name, why in misdeclared(function)]
    if found:
        raise LoweringError(
            "FER-LOW-001",
            f"coremltools {version('coremltools')} declared shapes that devices go wrong with ({'; '.join(found)}).",
            "Give one branch of that choice the shape of its condition, or choose another target.",
        )


def bound_constants(program: ExportedProgram) -> None:
    """Bring numbers in the graph into float16's range, in place.

    A mask made as (1 - m) * -3.4e38 would else become 0 * -inf, which is no number.
    """
    for node in filter(_makes_floats, program.graph.nodes):
        numbers = _numbers(node)
        bounded = {key: math.copysign(HALF_MAX, value) for key, value in numbers.items() if _oversized(value)}
        node.args = tuple(bounded.get(index, value) for index, value in enumerate(node.args))
        node.kwargs = {key: bounded.get(key, value) for key, value in node.kwargs.items()}
    program.graph_module.recompile()


def exceeds_half(program: ExportedProgram) -> bool:
    """Whether the graph holds a number that `bound_constants` would bring into range."""
    nodes = filter(_makes_floats, program.graph.nodes)
    return any(_oversized(value) for node in nodes for value in _numbers(node).values())


def _numbers(node: fx.Node) -> dict[int | str, Any]:
    """Arguments that take part in arithmetic, by place or name; the others are axes, ends of slices and the like."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    given: dict[int | str, Any] = {}
    for index, argument in enumerate(schema.arguments):
        if "int" not in str(argument.type):
            if index < len(node.args):
                given[index] = node.args[index]
            elif argument.name in node.kwargs:
                given[argument.name] = node.kwargs[argument.name]
    return given


def _oversized(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) > HALF_MAX


def _makes_floats(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return node.op == "call_function" and hasattr(value, "dtype") and bool(value.dtype.is_floating_point)
