"""Labels of points in a chart: those that would print over each other become one label of several numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

__all__ = ["LIFT", "MARKER", "Label", "merge_labels"]

# Points of 1/72 inch.
MARKER = 7.0  # diameter of a point
LIFT = 7.0  # from the centre of a point to the foot of its label
HEIGHT = 9.0  # of a line of text
ADVANCE = 6.5  # of a bold digit, on the wide side
GAP = 2.0  # between two labels


@dataclass(frozen=True)
class Label:
    """The numbers of one or several points and where those lie, x and y in points of 1/72 inch."""

    numbers: tuple[int, ...]
    places: tuple[tuple[float, float], ...]

    @property
    def text(self) -> str:
        """`3`, `3, 4`, or `3–5, 8` where three or more follow each other."""
        runs: list[list[int]] = []
        for number in sorted(self.numbers):
            if runs and number == runs[-1][-1] + 1:
                runs[-1].append(number)
            else:
                runs.append([number])
        return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs)

    @property
    def x(self) -> float:
        """Middle of the label."""
        return (min(x for x, _ in self.places) + max(x for x, _ in self.places)) / 2

    @property
    def top(self) -> float:
        """Height of the uppermost point; the label stands above it."""
        return max(y for _, y in self.places)

    def collides(self, other: Label) -> bool:
        """Whether this label's text would touch the other's text or one of the other's points."""
        half, foot = ADVANCE * len(self.text) / 2, self.top + LIFT
        near = abs(self.x - other.x) < half + ADVANCE * len(other.text) / 2 + GAP
        if near and abs(self.top - other.top) < HEIGHT + GAP:
            return True
        reach = MARKER / 2
        return any(abs(self.x - x) < half + reach and foot - reach < y < foot + HEIGHT + reach for x, y in other.places)


def merge_labels(labels: Sequence[Label]) -> list[Label]:
    """Merge the nearest colliding pair until no label touches another label or a foreign point."""
    left = list(labels)
    while True:
        pairs = [(a, b) for a, b in combinations(left, 2) if a.collides(b) or b.collides(a)]
        if not pairs:
            return left
        a, b = min(pairs, key=lambda pair: abs(pair[0].x - pair[1].x) + abs(pair[0].top - pair[1].top))
        left[left.index(a)] = Label(a.numbers + b.numbers, a.places + b.places)
        left.remove(b)
