"""Program: what a converter returns, and the signature of its entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = ["Dim", "OpRow", "Parity", "Program", "Signature", "StoredWeights", "TensorSpec", "bucket_name"]


@dataclass(frozen=True)
class Dim:
    """An axis whose length is chosen at run time, `min` and `max` included."""

    name: str
    min: int
    max: int


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: an axis in `shape` is a length, or the name of a `Dim`."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of an entry point, in order, as the artefact takes them.

    dims: the dynamic axes. padding: the value that fills an input up to a longer length without changing the
    result (an input that is absent here must fit exactly). buckets: the lengths of the one dynamic axis for which
    the artefact holds a static program each; empty where the artefact takes any length.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dims: Mapping[str, Dim] = field(default_factory=dict)
    padding: Mapping[str, float] = field(default_factory=dict)
    buckets: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, read back by `from_json`."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Signature:
        """Rebuild from `to_json`."""
        return Signature(
            inputs=tuple(TensorSpec(t["name"], t["dtype"], tuple(t["shape"])) for t in data["inputs"]),
            outputs=tuple(TensorSpec(t["name"], t["dtype"], tuple(t["shape"])) for t in data["outputs"]),
            dims={name: Dim(**dim) for name, dim in data["dims"].items()},
            padding=dict(data["padding"]),
            buckets=tuple(data["buckets"]),
        )


@dataclass(frozen=True)
class OpRow:
    """One op of the artefact and the unit that will run it.

    count: ops of this kind, unit and reason that share the row's `source`. unit: `cpu:xnnpack`, `ane`, … reason: why
    it runs there (or not on the accelerator). source: the user's `file:line` where known. basis: `measured` when
    the runtime itself said so here, `predicted` when it follows from documented rules.
    """

    op: str
    unit: str
    reason: str
    count: int = 1
    source: str = ""
    basis: str = "predicted"


@dataclass(frozen=True)
class StoredWeights:
    """Bytes that one kind of weight takes in the artefact, read back from it, beside its float32 size."""

    kind: str  # linear, embedding, other
    elements: int
    bytes: int

    @property
    def fp32_bytes(self) -> int:
        """Bytes of the same elements in float32."""
        return 4 * self.elements


@dataclass(frozen=True)
class Parity:
    """Agreement of an artefact with the eager float32 model over real inputs.

    cosine: the lowest over all inputs and outputs; cosine_mean: their mean; max_abs: the largest |difference|.
    fidelity: the lowest cosine to the eager *compressed* model (what the conversion alone changed).
    inputs: how many inputs were compared; source: what they were; engine: what ran the artefact.
    steps, control: for a model with state, over how many runs in sequence it was carried, and the artefact's highest
    cosine over all of them to the model with a buffer put back before each; None for one without state.
    """

    cosine: float
    cosine_mean: float
    max_abs: float
    fidelity: float
    inputs: int
    source: str
    engine: str
    steps: int | None = None
    control: float | None = None


@dataclass(frozen=True)
class Program:
    """Files of an artefact (below one folder), how to call it, and what became of the model on the way.

    main: the file or package that an engine opens, relative to `root`, the folder (not part of the JSON form). notes:
    every deviation from the captured model that the target forces, such as activations kept in float16; shown to
    the user. parity: filled in once the artefact has been run and compared.
    """

    target: str
    main: str
    entry_points: Mapping[str, Signature]
    delegation: tuple[OpRow, ...] = ()
    weights: tuple[StoredWeights, ...] = ()
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    parity: Parity | None = None
    root: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, read back by `from_json`."""
        return asdict(replace(self, root=None))

    @staticmethod
    def from_json(data: Mapping[str, Any], root: Path | None = None) -> Program:
        """Rebuild from `to_json`."""
        return Program(
            root=root,
            parity=Parity(**data["parity"]) if data.get("parity") else None,
            target=data["target"],
            main=data["main"],
            entry_points={name: Signature.from_json(s) for name, s in data["entry_points"].items()},
            delegation=tuple(OpRow(**row) for row in data["delegation"]),
            weights=tuple(StoredWeights(**row) for row in data["weights"]),
            notes=tuple(data["notes"]),
            tools=dict(data["tools"]),
        )


def bucket_name(entry_point: str, length: int) -> str:
    """Name of the static program of an entry point for one bucket, `forward_64`."""
    return f"{entry_point}_{length}"
