"""Proof: real inputs with the answers of the eager model, and the comparison of an artefact against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.errors import FerruleError, InputError, LoweringError, ModelError, ParityError
from ferrule.program import Parity
from ferrule.state import STEPS, Carrying, check_exercised, moving_buffers, stretch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from ferrule.model import EntryPoint, Model
    from ferrule.runtime.session import Session

__all__ = ["Proof", "answer", "likeness", "load_proof", "make_proof", "prove", "save_proof", "with_answers"]

SIZE_TOLERANCE = 0.15
"""How far the size of an output may move in conversion; rounding alone moves it by a few percent at most."""

MOST_BYTES = 64 << 20  # of reference outputs kept for a proof; large outputs mean fewer inputs
BUNDLED_INPUTS, BUNDLED_BYTES = 8, 4 << 20  # what travels in a bundle, for `ferrule check`

Arrays = Mapping[str, "NDArray[Any]"]


@dataclass(frozen=True)
class Proof:
    """Inputs by name; the float32 model's outputs (`reference`) and the compressed one's (`compressed`), by name.

    controls: for a model with state, whose inputs are steps in sequence: buffer -> the compressed model's outputs with
    that buffer put back to its first value before each step.
    """

    inputs: tuple[Arrays, ...]
    reference: tuple[Arrays, ...]
    compressed: tuple[Arrays, ...]
    source: str
    controls: Mapping[str, tuple[Arrays, ...]] = field(default_factory=dict)

    def head(self) -> Proof:
        """The part that travels in a bundle."""
        size = sum(a.nbytes for a in (*self.reference[0].values(), *self.inputs[0].values()))
        count = max(STEPS if self.controls else 1, min(BUNDLED_INPUTS, BUNDLED_BYTES // max(1, size)))
        controls = {name: rows[:count] for name, rows in self.controls.items()}
        return Proof(self.inputs[:count], self.reference[:count], self.compressed[:count], self.source, controls)


def answer(
    module: nn.Module, inputs: Sequence[Mapping[str, Tensor]], reset: Sequence[str] = ()
) -> tuple[tuple[Tensor, ...], ...]:
    """The eager module's outputs for each input, as flat tuples; ends early once they exceed 64 MB.

    The inputs are steps in sequence: what the module remembers goes on from one to the next, but for the buffers in
    `reset`, which get their first value back before each.
    Raises InputError FER-INP-003 if the module fails on an input, ModelError FER-MOD-002 if an output holds NaN:
    nothing could be proven against it; FER-MOD-004 if an output is no tensor.
    """
    import torch

    from ferrule.model import unchanged

    module.eval()
    answers: list[tuple[Tensor, ...]] = []
    first = {name: buffer.detach().clone() for name, buffer in module.named_buffers() if name in reset}
    size = 0
    with torch.no_grad(), unchanged(module), _plain_attention():
        for index, row in enumerate(inputs):
            for name, buffer in first.items():
                module.get_buffer(name).copy_(buffer)
            leaves = _call(module, index, row)
            if not reset and any(t.is_floating_point() and bool(t.isnan().any()) for t in leaves):
                raise ModelError(
                    "FER-MOD-002",
                    f"The eager model answers NaN to proof input {index}.",
                    "Give inputs on which the model itself works.",
                )
            answers.append(leaves)
            size += sum(t.numel() * t.element_size() for t in leaves)
            if size > MOST_BYTES:
                break
    return tuple(answers)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep nn.TransformerEncoder off its short cut, which writes zeros over padded positions; graphs do not have it."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _call(module: nn.Module, index: int, row: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    import torch
    import torch.utils._pytree as pytree

    try:
        # Copies, because a forward may write to its inputs.
        leaves = pytree.tree_leaves(module(*(value.clone() for value in row.values())))
    except Exception as error:
        shapes = ", ".join(f"{k}: {list(v.shape)} {str(v.dtype).removeprefix('torch.')}" for k, v in row.items())
        first = (str(error).strip().splitlines() or ["no message"])[0][:300]
        raise InputError(
            "FER-INP-003",
            f"The eager model fails on input {index} ({shapes}): {type(error).__name__}: {first}.",
            "Give inputs of the shapes and dtypes that the model itself accepts.",
        ) from error
    for leaf in leaves:
        if not isinstance(leaf, torch.Tensor) or leaf.is_complex():
            what = f"{leaf.dtype} tensor" if isinstance(leaf, torch.Tensor) else type(leaf).__name__
            raise ModelError(
                "FER-MOD-004",
                f"The model returns a {what} among its outputs; targets return tensors of real numbers only.",
                "Wrap the module in one whose forward returns just the tensors that an app needs "
                "(complex ones by torch.view_as_real).",
            )
    return tuple(t.detach().clone() for t in leaves)


def with_answers(model: Model) -> Model:
    """The model with `proof_outputs` filled in, from its modules as they are, unless it has them already."""
    if model.proof_outputs:
        return model
    entry = model.entry_points[model.policy.entry_point]
    inputs = tuple(_in_order(row, entry, index) for index, row in enumerate(model.proofs()))
    if len(inputs) < STEPS and _remembers(entry.module, inputs):
        inputs = stretch(inputs)
    outputs = answer(entry.module, inputs)
    return replace(model, proof_inputs=inputs[: len(outputs)], proof_outputs=outputs)


def _in_order(row: Mapping[str, Tensor], entry: EntryPoint, index: int) -> Mapping[str, Tensor]:
    """Modules are called by position, and a dict may come in any order."""
    if set(row) != set(entry.inputs):
        raise InputError(
            "FER-INP-004", f"Proof input {index} has {sorted(row)}; the model's inputs are {sorted(entry.inputs)}."
        )
    return {name: row[name] for name in entry.inputs}


def _remembers(module: nn.Module, inputs: Sequence[Mapping[str, Tensor]]) -> list[str]:
    """Buffers that the inputs change, by name."""
    import torch

    from ferrule.model import unchanged

    before = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    module.eval()
    with torch.no_grad(), unchanged(module), _plain_attention():
        for index, row in enumerate(inputs):
            _call(module, index, row)
        return moving_buffers(module, before)


def make_proof(model: Model, names: Sequence[str], state: Sequence[str] | None = None) -> Proof:
    """A proof of a (compressed) model whose `proof_outputs` are known; `names` are its outputs'.

    state: buffers that its graph writes to and that its outputs depend on; None finds those that the inputs change.
    Raises ParityError FER-PAR-004 if the inputs do not show what one of them does.
    """
    module = model.entry_points[model.policy.entry_point].module
    compressed = model.proof_outputs
    if model.history:
        compressed = answer(module, model.proof_inputs)

    def named(rows: tuple[tuple[Tensor, ...], ...]) -> tuple[Arrays, ...]:
        return tuple({n: t.numpy() for n, t in zip(names, row, strict=True)} for row in rows)

    inputs = tuple({k: v.numpy() for k, v in row.items()} for row in model.proof_inputs)
    written = _remembers(module, model.proof_inputs[:STEPS]) if state is None else state
    controls = {buffer: named(answer(module, model.proof_inputs, [buffer])) for buffer in written}
    check_exercised(named(compressed), controls)
    return Proof(inputs, named(model.proof_outputs), named(compressed), model.proof_source, controls)


def save_proof(proof: Proof, path: Path) -> None:
    """Write as safetensors, keys `<index>/<input|reference|compressed>/<name>`; `control:<buffer>` for controls."""
    from safetensors.numpy import save_file

    tensors = {
        f"{index:04d}/{part}/{name}": np.asarray(array, order="C")  # ascontiguousarray would give scalars an axis
        for part, rows in (
            ("input", proof.inputs),
            ("reference", proof.reference),
            ("compressed", proof.compressed),
            *((f"control:{buffer}", rows) for buffer, rows in proof.controls.items()),
        )
        for index, row in enumerate(rows)
        for name, array in row.items()
    }
    save_file(tensors, path, metadata={"source": proof.source})


def load_proof(path: Path) -> Proof:
    """Read what `save_proof` wrote."""
    from safetensors import safe_open

    rows: dict[str, dict[int, dict[str, NDArray[Any]]]] = {"input": {}, "reference": {}, "compressed": {}}
    with safe_open(path, framework="numpy") as file:
        source = (file.metadata() or {}).get("source", "")
        for key in sorted(file.keys()):  # noqa: SIM118  not a mapping
            index, part, name = key.split("/", 2)
            rows.setdefault(part, {}).setdefault(int(index), {})[name] = file.get_tensor(key)
    inputs, reference, compressed = (
        tuple(found[i] for i in sorted(found)) for found in (rows["input"], rows["reference"], rows["compressed"])
    )
    controls = {
        part.partition(":")[2]: tuple(found[i] for i in sorted(found))
        for part, found in sorted(rows.items())
        if part.startswith("control:")
    }
    return Proof(inputs, reference, compressed, source, controls)


def prove(session: Session, proof: Proof, progress: Callable[[int, int], None] | None = None) -> Parity:
    """Run every proof input, in sequence and from a fresh state, and compare.

    Raises ParityError FER-PAR-002 if the artefact answers NaN, FER-PAR-003 for another shape, FER-PAR-006 if it loses
    the model's state, FER-PAR-007 if the conversion changes the size of an output, which no cosine shows.

    Figures are rounded to six decimals so that a bundle does not depend on the last bits of a sum's order.
    """
    cosines: list[float] = []
    fidelities: list[float] = []
    worst = 0.0
    sizes: dict[str, tuple[float, float]] = {}
    carrying = Carrying()
    if proof.controls:
        session.reset()
    for index, row in enumerate(proof.inputs):
        outputs = _run(session, index, row)
        if proof.controls:
            carrying.add(outputs)
        for name, reference in proof.reference[index].items():
            found = outputs[name]
            if np.isnan(found.astype(np.float64)).any():
                raise ParityError(
                    "FER-PAR-002",
                    f"The artefact answers NaN in output {name!r} to proof input {index}.",
                    "Check for overflow in float16 (large masks, sums of squares).",
                )
            if found.shape != reference.shape:
                raise ParityError(
                    "FER-PAR-003",
                    f"Output {name!r} of the artefact has shape {list(found.shape)} for proof input {index}; the "
                    f"model's has {list(reference.shape)}.",
                    "Return that output in another form, or choose another target: the conversion changes its shape.",
                )
            cosine, error = _compare(reference, found)
            cosines.append(cosine)
            fidelities.append(_compare(proof.compressed[index][name], found)[0])
            worst = max(worst, error)
            sizes[name] = _add_size(sizes.get(name, (0.0, 0.0)), proof.compressed[index][name], found)
        if progress is not None:
            progress(index + 1, len(proof.inputs))
    control = carrying.control(proof.compressed, proof.controls) if proof.controls else None
    if min(fidelities) >= 0.9:  # else the cosine has the word
        _check_sizes(sizes)
    return Parity(
        cosine=round(min(cosines), 6),
        cosine_mean=round(float(np.mean(cosines)), 6),
        max_abs=float(f"{worst:.4g}"),
        fidelity=round(min(fidelities), 6),
        inputs=len(proof.inputs),
        source=proof.source,
        engine=session.engine.name,
        steps=len(proof.inputs) if proof.controls else None,
        control=None if control is None else round(control, 6),
    )


def _add_size(size: tuple[float, float], expected: NDArray[Any], found: NDArray[Any]) -> tuple[float, float]:
    """Sums of squares of what was expected and found, over all inputs: single values near zero say nothing."""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    return size[0] + float(np.square(a[both]).sum()), size[1] + float(np.square(b[both]).sum())


def _check_sizes(sizes: Mapping[str, tuple[float, float]]) -> None:
    for name, (expected, found) in sizes.items():
        ratio = (found / expected) ** 0.5 if expected > 1e-12 else 1.0
        if abs(ratio - 1) > SIZE_TOLERANCE:
            raise ParityError(
                "FER-PAR-007",
                f"Output {name!r} of the artefact is {ratio:.3g} times as large as the compressed model's over all "
                f"proof inputs; {1 - SIZE_TOLERANCE:g} to {1 + SIZE_TOLERANCE:g} is allowed.",
                "The conversion changes a scale or loses a constant: `ferrule check --locate` names the op.",
            )


def _run(session: Session, index: int, row: Arrays) -> dict[str, NDArray[Any]]:
    try:
        return session.run(row)
    except FerruleError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:300]
        raise LoweringError(
            "FER-LOW-005",
            f"{session.engine.name} opens the artefact and fails to run it on proof input {index}: "
            f"{type(error).__name__}: {first}",
            "The log holds the engine's own words. Unusual ops (complex numbers, sorting) are the likely cause: "
            "replace them in the model, or choose another target.",
        ) from error


def likeness(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Cosine of two answers, as `prove` reckons it."""
    return _compare(a, b)[0]


def _compare(a: NDArray[Any], b: NDArray[Any]) -> tuple[float, float]:
    """Cosine and largest |difference|; infinite values must stand at the same places, else the cosine is -1."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    finite = np.isfinite(x) & np.isfinite(y)
    same = np.array_equal(x[~finite], y[~finite])
    x, y = x[finite], y[finite]
    error = float(np.max(np.abs(x - y), initial=0.0))
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    cosine = float(x @ y) / norm if norm else float(np.array_equal(x, y))
    return (cosine if same else -1.0), error
