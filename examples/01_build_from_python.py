"""Build bundles of a module of your own for two devices, and look at what came of it.

python examples/01_build_from_python.py
"""

from __future__ import annotations

import torch
from torch import nn

import ferrule


class Classifier(nn.Module):
    """Rows of 64 features to the probabilities of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features).softmax(-1)


def main() -> None:
    torch.manual_seed(0)
    results = ferrule.deploy(
        Classifier().eval(),
        (torch.randn(1, 64),),
        devices=["raspberry-pi-5:onnx", "iphone-15-pro:coreml"],
        recipe=["fp", "w8"],
        out="out/classifier",
    )
    for result in results:
        if result.status == "ok" and result.parity is not None:
            print(f"{result.device}:{result.target} {result.recipe}: {result.size_bytes} bytes,", end=" ")
            print(f"cosine to float32 {result.parity.cosine:.5f}, {result.bundle}")
        else:
            print(f"{result.device}:{result.target} {result.recipe}: {result.status}, {result.code}: {result.reason}")


if __name__ == "__main__":
    main()
