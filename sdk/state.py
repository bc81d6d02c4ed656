"""State in a proof: that an artefact carries what its model remembers from one run to the next.

A model that writes to its buffers is run for several steps in sequence. Beside its answers stand those of controls: the
same steps, but with one buffer put back to its first value before each. Where a control answers as the model does, the
inputs prove nothing about that buffer; where the artefact is not far nearer to the model than to the control, it lost
the buffer on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.errors import ParityError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

__all__ = ["STEPS", "Carrying", "check_exercised", "moving_buffers", "stretch"]

STEPS = 8
"""The least steps over which state is proven; fewer proof inputs are repeated."""

MEASURABLE = 1e-3  # relative distance between the model and a control below which the control proves nothing
NEARER = 0.25  # the artefact's distance to the model, as a share of its distance to the control, at most

Arrays = Mapping[str, "NDArray[Any]"]


def moving_buffers(module: nn.Module, before: Mapping[str, Any]) -> list[str]:
    """Buffers that differ from the copies in `before`, by name."""
    import torch

    found = dict(module.named_buffers())
    return sorted(n for n, old in before.items() if not torch.equal(old, found[n]))


def stretch(rows: Sequence[Any]) -> tuple[Any, ...]:
    """The rows, repeated in order until there are enough steps."""
    return tuple(rows[index % len(rows)] for index in range(max(STEPS, len(rows))))


def check_exercised(answers: Sequence[Arrays], controls: Mapping[str, Sequence[Arrays]]) -> None:
    """Raise ParityError FER-PAR-004 if a control answers as the model does."""
    for buffer, control in controls.items():
        distances = (_distance([row[name] for row in answers], [row[name] for row in control]) for name in answers[0])
        if not max(distances, default=0.0) > MEASURABLE:
            raise ParityError(
                "FER-PAR-004",
                f"The model writes to its buffer {buffer!r}, but over {len(answers)} steps it answers the same when "
                "the buffer is put back before each: these inputs prove nothing about that state.",
                "Give a sequence of proof inputs (Model.proof_inputs) on which what the model remembers matters.",
            )


@dataclass
class Carrying:
    """What an artefact answers, step by step, beside the model with its history and the controls without."""

    found: list[Arrays] = field(default_factory=list)

    def add(self, outputs: Arrays) -> None:
        """The artefact's outputs of the next step."""
        self.found.append(dict(outputs))

    def control(self, answers: Sequence[Arrays], controls: Mapping[str, Sequence[Arrays]]) -> float:
        """The highest cosine of the artefact to a control over all steps.

        Raises ParityError FER-PAR-006 where it is not far nearer to the model's own answers.
        """
        cosines = []
        for buffer, control in controls.items():
            for name in answers[0]:
                true, reset, made = ([row[name] for row in rows] for rows in (answers, control, self.found))
                if not _distance(true, reset) > MEASURABLE:
                    continue
                near, far = _distance(true, made), _distance(reset, made)
                if not near < NEARER * far:
                    raise ParityError(
                        "FER-PAR-006",
                        f"The artefact does not carry the state of buffer {buffer!r}: over {len(answers)} steps its "
                        f"output {name!r} is {near:.3g} away from the model, and {far:.3g} from the model with that "
                        "buffer put back before each step (relative distance).",
                        "Pass the state as an input and return it as an output, or choose another target.",
                    )
                cosines.append(_cosine(reset, made))
        return max(cosines, default=0.0)


def _flat(rows: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([np.ravel(row).astype(np.float64) for row in rows])


def _distance(true: Iterable[NDArray[Any]], other: Iterable[NDArray[Any]]) -> float:
    """Norm of the difference by the norm of the former; what is not finite counts where only one has it."""
    a, b = _flat(true), _flat(other)
    if a.shape != b.shape:
        return float("inf")
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    norm = float(np.linalg.norm(a[finite]))
    difference = float(np.linalg.norm(a[finite] - b[finite]))
    return difference / norm if norm else difference


def _cosine(a: Iterable[NDArray[Any]], b: Iterable[NDArray[Any]]) -> float:
    x, y = _flat(a), _flat(b)
    finite = np.isfinite(x) & np.isfinite(y)
    norm = float(np.linalg.norm(x[finite]) * np.linalg.norm(y[finite]))
    return float(x[finite] @ y[finite]) / norm if norm else 0.0
