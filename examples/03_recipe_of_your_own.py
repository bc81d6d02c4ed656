"""Write a recipe: layers chosen by name, calibration data of your own, and the least quality that you accept.

python examples/03_recipe_of_your_own.py
"""

from __future__ import annotations

import torch
from torch import nn

import ferrule


def make() -> nn.Module:
    """A small network with a wide middle and a head that should stay precise."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(64, 512), nn.GELU(), nn.Linear(512, 64), nn.GELU())
    return nn.Sequential(body, nn.Linear(64, 10)).eval()


RECIPE = {
    "name": "mixed",
    "steps": [
        # The first layer: int8 activations in ranges that were found on the calibration data.
        {"technique": "w8a8-static", "options": {"layers": ["0.0"], "method": "percentile", "percentile": 99.9}},
        # The rest: int8 weights, float activations; the head is left alone.
        {"technique": "w8", "options": {"layers": ["*"], "skip": ["0.0", "1"]}},
    ],
    "min_cosine": 0.99,
}


def main() -> None:
    calibration = [{"input": row[None]} for row in torch.randn(64, 64)]
    results = ferrule.deploy(
        ferrule.compress(make(), RECIPE, example_inputs=(torch.randn(1, 64),), calibration=calibration),
        devices=["galaxy-s24:executorch"],
        out="out/mixed",
    )
    for result in results:
        print(f"{result.device}:{result.target}: {result.status} {result.reason or ''}")
        if result.parity is not None:
            print(f"cosine {result.parity.cosine:.5f}; conversion alone {result.parity.fidelity:.5f}")
        if result.bundle is not None:
            for weights in ferrule.Bundle.open(result.bundle).program.weights:
                print(f"{weights.kind}: {weights.elements} weights in {weights.bytes} bytes")


if __name__ == "__main__":
    main()
