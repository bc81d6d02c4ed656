"""Find the op at which an artefact parts from the model: here a sum of squares that float16 cannot hold.

    python examples/05_find_a_fault.py

On the command line: ferrule check --locate --model examples/05_find_a_fault.py:make --device iphone-15-pro:coreml
"""

from __future__ import annotations

import torch
from torch import nn

from ferrule.converters.locate import examine_destination


class Normalised(nn.Module):
    """Rows of 64 features, scaled and divided by their length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        wide = self.layer(features) * 300
        energy = (wide * wide).sum(-1, keepdim=True)  # beyond 65504, where float16 ends
        return wide / energy.sqrt()


def make() -> tuple[nn.Module, tuple[torch.Tensor]]:
    """What `FILE.py:FUNCTION` stands for."""
    torch.manual_seed(0)
    return Normalised().eval(), (torch.randn(1, 64),)


def main() -> None:
    found = examine_destination(f"{__file__}:make", "iphone-15-pro:coreml", "fp").divergence
    if found is None:
        print("nothing diverges")
    else:
        print(f"first op that diverges: {found.node}, from {found.source}")
        print(f"what agrees before it: {', '.join(found.after)}")
        print(found.guess)


if __name__ == "__main__":
    main()
