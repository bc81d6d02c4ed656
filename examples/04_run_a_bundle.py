"""Open a bundle, check it, and run it as an app would: inputs by name, any length within the range.

python examples/04_run_a_bundle.py
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import ferrule


def build() -> str:
    """A bundle whose input may have 1 to 64 rows."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)).eval()
    rows = {"input": {0: ferrule.Dim("rows", 1, 64)}}
    (result,) = ferrule.deploy(
        module, (torch.randn(4, 16),), devices=["raspberry-pi-5:onnx"], dynamic=rows, out="out/runnable"
    )
    if result.bundle is None:
        raise SystemExit(f"{result.code}: {result.reason}")
    return result.bundle


def main() -> None:
    bundle = build()
    outcome = ferrule.check(bundle)  # every hash, then the proof inputs that it carries
    print("ok" if outcome.ok else outcome.problems)
    with ferrule.Session.open(bundle, threads=1) as session:
        for rows in (1, 7, 64):
            outputs = session.run({"input": np.ones((rows, 16), np.float32)})
            print({name: array.shape for name, array in outputs.items()})
        try:
            session.run({"input": np.ones((65, 16), np.float32)})
        except ferrule.FerruleError as error:
            print(error.code, error.message)  # every error has a code, and docs/errors.md an entry for it


if __name__ == "__main__":
    main()
