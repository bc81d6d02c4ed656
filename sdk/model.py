"""Model: what a user wants on a device, and its capture as torch.export graphs."""

from __future__ import annotations

import copy
import inspect
import re
import sysconfig
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.errors import CaptureError, InputError, ModelError
from ferrule.graph_writes import written_inputs
from ferrule.policy import Forward, Policy
from ferrule.program import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.export import ExportedProgram

__all__ = ["Captured", "Dim", "EntryPoint", "Model", "as_model", "capture", "check_weights", "copy_module"]


@dataclass(frozen=True)
class EntryPoint:
    """One callable of a model: a module, example inputs in the order of its forward, and its dynamic axes.

    dynamic: input name -> axis -> Dim. padding: see `Signature.padding`. outputs: names, or empty to derive them.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, Dim]] = field(default_factory=dict)
    padding: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """Entry points, the policy that drives them, and the files that travel with them.

    policy: calls `forward`, or the first entry point where none is called so, unless another is given; its entry point
    is the one that techniques calibrate and proofs run. Raises ModelError FER-MOD-006 for a policy that calls none.
    assets: file name in the bundle -> file here (tokenizer, labels). processing: what an app does before and after, as
    data. proof_inputs: real inputs on which artefacts are compared, and `proof_source` says what they are.
    proof_outputs: what the uncompressed model answered to them, once known.
    calibration: real inputs, none of them a proof's, that techniques may calibrate on when the user gives none.
    history: names of the techniques applied so far. notes: facts that the user must be told (random weights, …).
    """

    entry_points: Mapping[str, EntryPoint]
    source: str
    policy: Policy = field(default_factory=Forward)
    assets: Mapping[str, Path] = field(default_factory=dict)
    processing: Mapping[str, Any] = field(default_factory=dict)
    proof_inputs: tuple[Mapping[str, Tensor], ...] = ()
    proof_source: str = ""
    proof_outputs: tuple[tuple[Tensor, ...], ...] = ()
    calibration: tuple[Mapping[str, Tensor], ...] = ()
    history: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.policy == Forward() and self.policy.entry_point not in self.entry_points and self.entry_points:
            object.__setattr__(self, "policy", Forward(next(iter(self.entry_points))))
        if self.policy.entry_point not in self.entry_points:
            raise ModelError(
                "FER-MOD-006",
                f"The policy calls entry point {self.policy.entry_point!r}; the model has: "
                f"{', '.join(self.entry_points) or 'none'}.",
                "Give Model a policy that names one of its entry points, such as ferrule.policy.Forward('decode').",
            )

    def exchange(self, modules: Mapping[str, nn.Module]) -> Model:
        """The same model with other modules, which compute the same, behind some of its entry points."""
        entry_points = {
            name: replace(entry, module=modules.get(name, entry.module)) for name, entry in self.entry_points.items()
        }
        return replace(self, entry_points=entry_points)

    def with_modules(self, modules: Mapping[str, nn.Module], technique: str) -> Model:
        """The same model with compressed modules behind its entry points, and one more line of history."""
        return replace(self.exchange(modules), history=(*self.history, technique))

    def proofs(self) -> tuple[Mapping[str, Tensor], ...]:
        """Inputs to compare artefacts on: the proof inputs, or else the example inputs."""
        return self.proof_inputs or (self.entry_points[self.policy.entry_point].inputs,)


@dataclass(frozen=True)
class Captured:
    """An entry point as a torch.export graph with its signature."""

    program: ExportedProgram
    signature: Signature


def as_model(
    model: Model | nn.Module,
    example_inputs: Mapping[str, Tensor] | Sequence[Tensor] | None = None,
    dynamic: Mapping[str, Mapping[int, Dim]] | None = None,
) -> Model:
    """A Model from a bare module and its example inputs; a Model passes through.

    A module in training mode is copied (its weights are shared) and the copy set to evaluation. Raises InputError
    FER-INP-001 when inputs are missing or do not fit the forward's parameters, FER-INP-009 for wrong dynamic axes.
    """
    if isinstance(model, Model):
        return model
    _check_module(model)
    if example_inputs is None:
        raise InputError(
            "FER-INP-001",
            f"{type(model).__name__} came without example inputs.",
            "Pass example_inputs=(tensor, …) or {'name': tensor, …} in the order of its forward.",
        )
    inputs = _name_inputs(model, example_inputs)
    _check_dynamic(inputs, dynamic or {})
    entry = EntryPoint(_evaluating(model), inputs, dynamic or {})
    return Model({"forward": entry}, source=f"module:{type(model).__name__}", proof_source="example inputs")


def _check_module(model: object) -> None:
    from torch import nn

    if isinstance(model, nn.Module) and "eval" not in vars(model):
        return
    # torch.export replaces `eval` of the module that it returns by a function that raises.
    what = "an exported program" if "Exported" in type(model).__name__ or isinstance(model, nn.Module) else "no module"
    raise InputError(
        "FER-INP-001",
        f"The model is a {type(model).__name__}, {what}; an nn.Module or a ferrule.Model is needed.",
        "Save an exported program by torch.export.save and load it by ferrule.load_model('FILE.pt2').",
    )


def _evaluating(module: nn.Module) -> nn.Module:
    return copy_module(module, {}).eval() if any(m.training for m in module.modules()) else module


def copy_module(module: nn.Module, instead: Mapping[int, Any]) -> nn.Module:
    """Copy a tree of modules but not its weights; `instead` maps id(submodule) to what stands for it in the copy.

    Raises ModelError FER-MOD-005 for a module that Python cannot copy.
    """
    shared: dict[int, Any] = {id(t): t for t in (*module.parameters(), *module.buffers())}
    try:
        copied: nn.Module = copy.deepcopy(module, {**shared, **instead})
    except Exception as error:
        raise ModelError(
            "FER-MOD-005",
            f"{type(module).__name__} cannot be copied: {type(error).__name__}: {_first_line(error)}.",
            "Keep locks, open files and computed tensors out of its attributes, and call .eval() before.",
        ) from error
    return copied


def _check_dynamic(inputs: Mapping[str, Tensor], dynamic: Mapping[str, Mapping[int, Dim]]) -> None:
    """A dynamic axis that belongs to no input would be ignored by torch.export: refuse it."""
    for name, axes in dynamic.items():
        if name not in inputs:
            raise InputError("FER-INP-009", f"Dynamic axes of {name!r}: the inputs are {list(inputs)}.")
        for axis, dim in axes.items():
            length = inputs[name].shape[axis] if axis in range(inputs[name].dim()) else None
            if length is None or not isinstance(dim, Dim) or not dim.min <= length <= dim.max:
                raise InputError(
                    "FER-INP-009",
                    f"Dynamic axis {axis!r} of {name!r} is {dim!r}; the example's shape is {list(inputs[name].shape)}.",
                    "Give {axis: ferrule.Dim(name, min, max)}: axes count from 0, the range holds the example.",
                )


def _name_inputs(module: nn.Module, given: Mapping[str, Tensor] | Sequence[Tensor]) -> dict[str, Tensor]:
    import torch

    parameters = [p for p in inspect.signature(module.forward).parameters.values() if p.kind != p.VAR_KEYWORD]
    names = [p.name for p in parameters if p.kind != p.VAR_POSITIONAL]
    if isinstance(given, torch.Tensor):
        given = (given,)
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown and len(names) == len(parameters):
            raise InputError(
                "FER-INP-001", f"Inputs {unknown} are not parameters of {type(module).__name__}.forward{names}."
            )
        ordered = {name: given[name] for name in names if name in given}
        ordered.update({name: given[name] for name in unknown})
    else:
        labels = names + [f"input_{i}" for i in range(len(names), len(given))]
        if len(given) > len(names) and len(names) == len(parameters):
            raise InputError(
                "FER-INP-001",
                f"{len(given)} example inputs were given; {type(module).__name__}.forward takes {names}.",
            )
        ordered = dict(zip(labels, given, strict=False))
    for name, value in ordered.items():
        if not isinstance(value, torch.Tensor):
            raise InputError("FER-INP-002", f"Input {name!r} is a {type(value).__name__}; a torch.Tensor is needed.")
    return ordered


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Put the module's buffers back afterwards: a run may move its state (a cache, a counter)."""
    before = {name: buffer.detach().clone() for name, buffer in module.named_buffers() if not _is_code(name)}
    try:
        yield
    finally:
        after = dict(module.named_buffers())
        for name, value in before.items():
            after[name].copy_(value)


def _is_code(name: str) -> bool:
    """The tensors of coded layers are large and no forward writes to them."""
    return name.rpartition(".")[2] in ("codes", "scales", "table")


def check_weights(model: Model) -> None:
    """Refuse NaN or infinite parameters (ModelError FER-MOD-001) and other floats than float32 (FER-MOD-003).

    Buffers may be infinite, as masks are.
    """
    import torch

    for entry in model.entry_points.values():
        for name, parameter in entry.module.named_parameters():
            if parameter.is_floating_point() and parameter.dtype != torch.float32:
                raise ModelError(
                    "FER-MOD-003",
                    f"Weight {name!r} is {str(parameter.dtype).removeprefix('torch.')}; float32 is needed.",
                    "Call .float() on the module: recipes and targets choose the precision.",
                )
            if parameter.is_floating_point() and not torch.isfinite(parameter).all():
                bad = int((~torch.isfinite(parameter)).sum())
                raise ModelError(
                    "FER-MOD-001",
                    f"Weight {name!r} holds {bad} NaN or infinite values out of {parameter.numel()}.",
                    "Repair or reload the checkpoint: no codec can represent them.",
                )


def capture(model: Model) -> dict[str, Captured]:
    """Export every entry point by torch.export, as a graph that leaves its inputs as they are.

    Raises CaptureError FER-CAP-001 naming the user's line, InputError FER-INP-006 for complex inputs.
    """
    import torch

    with torch.no_grad():
        return {name: _capture_entry(name, entry) for name, entry in model.entry_points.items()}


def _capture_entry(name: str, entry: EntryPoint) -> Captured:
    import torch

    # A fresh copy has canonical strides; a slice's strides would become guards on the dynamic axes.
    arguments = tuple(value.new_empty(value.shape).copy_(value) for value in entry.inputs.values())
    outputs = entry.outputs or _name_outputs(name, entry)
    dims = {
        dim.name: torch.export.Dim(dim.name, min=dim.min, max=dim.max)
        for axes in entry.dynamic.values()
        for dim in axes.values()
    }
    shapes = tuple({axis: dims[dim.name] for axis, dim in entry.dynamic.get(key, {}).items()} for key in entry.inputs)
    _refuse_complex(name, entry.inputs)
    try:
        with warnings.catch_warnings():
            # A remark of torch's on its own code, which no user can heed.
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            # torch's own recurrent layers lay their weights out anew; nothing of it is state.
            warnings.filterwarnings(
                "ignore", r"The tensor attributes? (\S*\._flat_weights\[\d+\],? )+(was|were) assigned"
            )
            program = torch.export.export(entry.module.eval(), arguments, dynamic_shapes=shapes if dims else None)
            # Targets differ in what they make of a written input, or drop the write in silence.
            if written_inputs(program):
                copying = _on_copies(entry)
                program = torch.export.export(copying, arguments, dynamic_shapes=shapes if dims else None)
            if not _can_be_saved(program):
                plain = _returning_plainly(entry)
                program = torch.export.export(plain, arguments, dynamic_shapes=shapes if dims else None)
    except Exception as error:
        raise _explain_capture(name, error) from error
    return Captured(program, _signature(program, entry, outputs))


def _refuse_complex(name: str, inputs: Mapping[str, Tensor]) -> None:
    for key, value in inputs.items():
        if value.is_complex():
            raise InputError(
                "FER-INP-006",
                f"Input {key!r} of entry point {name!r} is {str(value.dtype).removeprefix('torch.')}; targets take "
                "real numbers only.",
                "Pass torch.view_as_real(…) and call torch.view_as_complex in forward.",
            )


def _on_copies(entry: EntryPoint) -> nn.Module:
    """The module called on copies of its inputs."""
    from torch import fx

    graph = fx.Graph()
    inputs = [graph.placeholder(name) for name in entry.inputs]
    graph.output(graph.call_module("module", tuple(graph.call_method("clone", (value,)) for value in inputs)))
    return fx.GraphModule({"module": entry.module}, graph).eval()


def _can_be_saved(program: ExportedProgram) -> bool:
    """Whether torch can write down the form of what is returned; it cannot for named tuples such as topk's."""
    import torch.utils._pytree as pytree

    try:
        pytree.treespec_dumps(program.call_spec.out_spec)
    except NotImplementedError:
        return False
    return True


def _returning_plainly(entry: EntryPoint) -> nn.Module:
    """The module called on copies of its inputs, its answer as a plain tuple of tensors."""
    from torch import fx

    graph = fx.Graph()
    inputs = [graph.placeholder(name) for name in entry.inputs]
    copies = tuple(graph.call_method("clone", (value,)) for value in inputs)
    answer = graph.call_module("module", copies)
    graph.output(graph.call_function(_leaves, (answer,)))
    return fx.GraphModule({"module": entry.module}, graph).eval()


def _leaves(answer: Any) -> tuple[Any, ...]:
    import torch.utils._pytree as pytree

    return tuple(pytree.tree_leaves(answer))


def _name_outputs(name: str, entry: EntryPoint) -> tuple[str, ...]:
    import torch.utils._pytree as pytree

    try:
        with unchanged(entry.module):
            result = entry.module.eval()(*(value.clone() for value in entry.inputs.values()))
    except Exception as error:
        raise InputError(
            "FER-INP-003",
            f"Entry point {name!r} fails on its own example inputs ({_shapes(entry.inputs)}): "
            f"{type(error).__name__}: {_first_line(error)}.",
            "Give example inputs that the eager model accepts.",
        ) from error
    leaves, _ = pytree.tree_flatten_with_path(result)
    if len(leaves) == 1 and not leaves[0][0]:
        return ("output",)
    names = ["_".join(_label(key) for key in path) for path, _ in leaves]
    plain = [re.sub(r"\W", "_", n, flags=re.ASCII) for n in names]  # targets want identifiers
    return tuple(f"output_{n}" if n[:1].isdigit() else n for n in plain)


def _label(key: Any) -> str:
    """A dictionary's key, a list's index or a named tuple's field, as torch's paths have them."""
    return str(next((getattr(key, part) for part in ("key", "idx", "name") if hasattr(key, part)), key))


def _signature(program: ExportedProgram, entry: EntryPoint, outputs: tuple[str, ...]) -> Signature:
    """Read shapes off the graph; a symbol becomes the name of the Dim that introduced it."""
    user_inputs = set(program.graph_signature.user_inputs)
    placeholders = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in user_inputs]
    symbols: dict[str, str] = {}
    for node, key in zip(placeholders, entry.inputs, strict=True):
        for axis, dim in entry.dynamic.get(key, {}).items():
            symbols[str(node.meta["val"].shape[axis])] = dim.name
    inputs = tuple(_spec(key, node.meta["val"], symbols) for node, key in zip(placeholders, entry.inputs, strict=True))
    results = next(n for n in program.graph.nodes if n.op == "output").args[0]
    # Mutated buffers come first among the graph's outputs; the user's outputs are the last ones.
    tail = results[len(results) - len(outputs) :]
    specs = tuple(_spec(key, node.meta["val"], symbols) for key, node in zip(outputs, tail, strict=True))
    dims = {dim.name: dim for axes in entry.dynamic.values() for dim in axes.values()}
    return Signature(inputs, specs, dims, dict(entry.padding))


def _spec(name: str, value: torch.Tensor, symbols: Mapping[str, str]) -> TensorSpec:
    shape = tuple(n if isinstance(n, int) else symbols.get(str(n), str(n)) for n in value.shape)
    return TensorSpec(name, str(value.dtype).removeprefix("torch."), shape)


def _explain_capture(name: str, error: Exception) -> CaptureError:
    """Name the user's line: the innermost frame that is neither torch nor Ferrule."""
    where = _user_frame(error)
    place = f" at {where.filename}:{where.lineno}, `{(where.line or '').strip()}`" if where else ""
    return CaptureError(
        "FER-CAP-001",
        f"torch.export cannot capture entry point {name!r}{place}: {type(error).__name__}: {_explanation(error)}",
        "Replace the construct (control flow on tensor values, .item(), numpy calls) by tensor ops or torch.cond.",
    )


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    # torch calls the user's forward through contextlib and functools, so the standard library is no place to name.
    others = tuple(str(Path(p).resolve()) for p in (Path(__file__).parent, sysconfig.get_paths()["stdlib"]))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
        and "dist-packages" not in frame.filename
        and not str(Path(frame.filename).resolve()).startswith(others)
        and not frame.filename.startswith("<")
    ]
    return frames[-1] if frames else None


def _explanation(error: Exception) -> str:
    """The first line, and the points below it where torch lists which constraints were violated."""
    points = [line.strip() for line in str(error).strip().splitlines()[1:] if line.strip().startswith("- ")]
    return " ".join([_first_line(error), *points])[:500]


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else "no message"


def _shapes(inputs: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{k}: {list(v.shape)} {str(v.dtype).removeprefix('torch.')}" for k, v in inputs.items())
