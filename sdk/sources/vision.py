"""Vision models as modules of one image, and pictures to compare them on when there are none at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VisionModel", "pictures"]


class VisionModel(nn.Module):
    """pixel_values float32 [1, channels, height, width] -> the fields `outputs` of the wrapped model; one as it is."""

    def __init__(self, model: nn.Module, *outputs: str) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, pixel_values: Tensor) -> Tensor | tuple[Tensor, ...]:
        answer = self.model(pixel_values=pixel_values)
        values = tuple(getattr(answer, name) for name in self.outputs)
        return values[0] if len(values) == 1 else values


def pictures(count: int, shape: tuple[int, int, int], seed: int = 0) -> list[NDArray[np.float32]]:
    """Synthetic pictures float32 [1, channels, height, width], roughly standardised as image models expect.

    Sums of waves whose strength falls with frequency, as in photographs, with a few hard-edged discs; unlike white
    noise they excite early filters as natural images do. They prove agreement, never accuracy.
    """
    generator = np.random.default_rng(seed)
    channels, height, width = shape
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    out = []
    for _ in range(count):
        image = np.zeros((channels, height, width))
        for frequency in (1, 2, 3, 5, 8, 13, 21):
            angle, phase = generator.uniform(0, 2 * np.pi, 2)
            wave = np.sin(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase)
            image += generator.normal(1, 0.4, (channels, 1, 1)) * wave / frequency
        for _ in range(3):
            cy, cx, radius = generator.uniform(0, 1, 2).tolist() + [generator.uniform(0.05, 0.3)]
            inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
            image += inside * generator.normal(0, 1, (channels, 1, 1))
        image = (image - image.mean()) / image.std()
        out.append(image[None].astype(np.float32))
    return out
