"""Accuracy of exported artefacts on labelled data, each run by its own engine.

    python benchmarks/accuracy.py minilm [RECIPE …] [--target T …]     Reuters R8, see ferrule.demo.accuracy
    python benchmarks/accuracy.py vit [RECIPE …] [--target T …]        Fashion-MNIST, --data names its folder

Prints JSON. Core ML's reference interpreter is slow, so it classifies the first 1000 pictures only; each row says how
many. Ranges and palettes are calibrated on the samples' own data, which hold nothing that is tested here.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shlex
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import ferrule

DEVICES = {
    "coreml": "iphone-15-pro",
    "executorch": "galaxy-s24",
    "executorch-coreml": "macbook-air-m2",
    "litert": "pixel-9",
    "onnx": "raspberry-pi-5",
}
INTERPRETED = ("coreml", "executorch-coreml")
FEW = 1000
RECIPES = {
    "minilm": ["fp", "w8a8", "w4g32", "lut4", "w8a8-static"],
    "vit": ["fp", "w8a8", "w8a8-static", "lut4", "tome16-w8a8"],
}


def read_pictures(data: Path) -> tuple[Any, Any]:
    """The test split: float32 [10000, 1, 28, 28] as the model takes them, and labels."""
    from ferrule.sources.vit_sample import MEAN, SPREAD

    images = np.frombuffer(gzip.decompress((data / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((data / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    pictures = (images.reshape(-1, 1, 28, 28).astype(np.float32) / 255 - MEAN) / SPREAD
    return pictures.astype(np.float32), labels


def classify(bundle: str, data: str, count: int) -> float:
    """Share of the first `count` test pictures that a bundle tells right, one at a time."""
    pictures, labels = read_pictures(Path(data))
    with ferrule.Session.open(bundle) as session:
        found = [int(session.run({"image": x[None]})["logits"].argmax()) for x in pictures[:count]]
    return float(np.mean(np.array(found) == labels[:count]))


def vit_accuracies(bundles: dict[str, str], data: Path) -> tuple[dict[str, float], dict[str, int], float]:
    """Accuracy and number of pictures by bundle, and the eager float32 model's accuracy on all."""
    import torch

    counts = {bundle: FEW if target in INTERPRETED else 10_000 for bundle, target in bundles.items()}
    with ProcessPoolExecutor(2, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = {b: pool.submit(classify, b, str(data), counts[b]) for b in bundles}
        found = {b: f.result() for b, f in futures.items()}
    pictures, labels = read_pictures(data)
    module = ferrule.load_model("sample:vit").entry_points["forward"].module
    with torch.no_grad():
        answers = torch.cat([module(x) for x in torch.from_numpy(pictures).split(500)]).argmax(-1).numpy()
    return found, counts, float((answers == labels).mean())


def minilm_accuracies(bundles: dict[str, str]) -> tuple[dict[str, float], dict[str, int], float]:
    """Accuracy by bundle on 1000 documents, and the eager float32 model's."""
    from ferrule.demo.accuracy import bundle_accuracies, fit_head

    head = fit_head(ferrule.load_model("sample:minilm"))
    return bundle_accuracies(list(bundles), head), dict.fromkeys(bundles, len(head.test.labels)), head.reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", choices=sorted(RECIPES))
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--target", action="append", choices=sorted(DEVICES))
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    arguments = parser.parse_args()
    places = [f"{DEVICES[target]}:{target}" for target in arguments.target or DEVICES]
    with tempfile.TemporaryDirectory() as out:
        results = ferrule.deploy(
            f"sample:{arguments.sample}", devices=places, recipe=arguments.recipes or RECIPES[arguments.sample], out=out
        )
        bundles = {r.bundle: r.target for r in results if r.bundle is not None}
        found, counts, reference = (
            minilm_accuracies(bundles) if arguments.sample == "minilm" else vit_accuracies(bundles, arguments.data)
        )
    rows = [
        {
            "recipe": r.recipe,
            "target": r.target,
            "status": r.status,
            "reason": f"{r.code}: {r.reason}" if r.code else None,
            "size_bytes": r.size_bytes,
            "cosine": r.parity.cosine if r.parity else None,
            "accuracy": found.get(r.bundle) if r.bundle else None,
            "samples": counts.get(r.bundle) if r.bundle else None,
        }
        for r in results
    ]
    command = shlex.join(["python", "benchmarks/accuracy.py", *sys.argv[1:]])
    print(json.dumps({"command": command, "reference": reference, "results": rows}, indent=1))


if __name__ == "__main__":
    main()
