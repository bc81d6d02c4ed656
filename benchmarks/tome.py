"""Token merging on `sample:vit`: accuracy against random merging, work against its formula, time of the artefacts.

    python benchmarks/tome.py --data /usr/share/datasets/fashion-mnist -o docs/results/tome.json

The data are Debian's package dataset-fashion-mnist (its 10,000 test pictures). Random merging runs the same machinery
at the same counts with scores and partners drawn at random. Times are of this machine, one thread, batch 1, the
artefacts run by turns, medians; a token-layer is a token that enters a block.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import ferrule
from ferrule.recipe import Recipe, Step
from ferrule.techniques.tokens import stack as stacks
from ferrule.techniques.tokens.merging import Matching
from ferrule.techniques.tokens.stack import MergingStack

DEVICES = {"onnx": "raspberry-pi-5", "executorch": "galaxy-s24", "litert": "pixel-9"}


def read(data: Path, count: int) -> tuple[Tensor, Tensor]:
    """Standardised test pictures float32 [count, 1, 28, 28] and labels."""
    from ferrule.sources.vit_sample import FashionViT

    images = np.frombuffer(gzip.decompress((data / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((data / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    pictures = torch.from_numpy(images.reshape(-1, 1, 28, 28)[:count].copy())
    return FashionViT.standardise(pictures), torch.from_numpy(labels[:count].astype(np.int64))


@torch.no_grad()
def accuracy(module: nn.Module, pictures: Tensor, labels: Tensor) -> float:
    """Share of pictures told right, in per cent."""
    parts = zip(pictures.split(50), labels.split(50), strict=True)
    right = sum(int((module(x).argmax(-1) == y).sum()) for x, y in parts)
    return round(100 * right / len(labels), 2)


def match_at_random(metric: Tensor, sizes: Tensor | None, protected: int) -> Matching:
    """Stands in for `match_tokens`: the same evens and odds, any pair as good as another."""
    first = protected + 1 - protected % 2
    start = protected + protected % 2
    evens, odds = metric[:, start::2].shape[:2], metric[:, first::2].shape[1]
    return Matching(start, torch.rand(evens), torch.randint(odds, evens).float() * 2 + first)


def at_random(module: nn.Module, pictures: Tensor, labels: Tensor, seeds: int) -> list[float]:
    """Accuracy with the pairs drawn at random, once for each seed."""
    real, found = stacks.match_tokens, []
    stacks.match_tokens = match_at_random
    try:
        for seed in range(seeds):
            torch.manual_seed(seed)
            found.append(accuracy(module, pictures, labels))
    finally:
        stacks.match_tokens = real
    return found


def work(module: nn.Module, base: nn.Module, image: Tensor) -> dict[str, float]:
    """Token-layers and floating-point work in proportion to the whole model, counted and by the formula."""
    (stack,) = (m for m in module.modules() if isinstance(m, MergingStack))
    tokens, layers = stack.plan.longest, len(stack.plan.totals)
    attend, feed = stack.plan.token_layers(tokens)
    width = base.vit.embed_dim  # type: ignore[union-attr]

    def formula(before: list[int], after: list[int]) -> float:
        # Multiply-adds: four projections and two products of n x n x width; then a feed-forward of ratio four.
        return float(
            sum(4 * n * width**2 + 2 * n * n * width + 8 * m * width**2 for n, m in zip(before, after, strict=True))
        )

    def counted(part: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            part(image)
        return int(counter.get_total_flops())

    def merging() -> float:
        """Scores of evens with odds, and the sum into destinations; what grows with no width is left out."""
        keys = stack.mean.shape[0]
        pairs = [(n, n - m) for n, m in zip(attend, feed, strict=True) if n > m]
        return float(sum((n // 2) ** 2 * keys + (n - gone) * gone * width for n, gone in pairs))

    whole = formula([tokens] * layers, [tokens] * layers)
    outside = counted(base) / 2 - whole  # patches and head
    return {
        "token_layers": round(sum(attend) / (tokens * layers), 4),
        "token_layers_feed_forward": round(sum(feed) / (tokens * layers), 4),
        "flops_formula": round((formula(attend, feed) + merging() + outside) / (whole + outside), 4),
        "flops_formula_without_merging": round((formula(attend, feed) + outside) / (whole + outside), 4),
        "flops_counted": round(counted(module) / counted(base), 4),
    }


def latency(model: ferrule.Model, recipe: Recipe, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of the merged artefact and of the plain one, run by turns: medians, lowest, ratios."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        devices = [f"{device}:{target}" for target, device in DEVICES.items()]
        built = ferrule.deploy(model, devices=devices, recipe=["fp", recipe], out=folder)
        inputs = {name: value.numpy() for name, value in model.entry_points["forward"].inputs.items()}
        for target in DEVICES:
            pair = [r for r in built if r.target == target]
            assert all(r.status == "ok" for r in pair), [r.reason for r in pair]
            sessions = [ferrule.Session.open(r.bundle) for r in pair]
            times: list[list[float]] = [[], []]
            for index in range(rounds + 10):
                for session, found in zip(sessions, times, strict=True):
                    started = time.perf_counter()
                    session.run(inputs)
                    if index >= 10:
                        found.append(1000 * (time.perf_counter() - started))
            plain, merged = (float(np.median(t)) for t in times)
            quick, quick_merged = (float(np.min(t)) for t in times)
            rows.append(
                {
                    "target": target,
                    "fp_ms": round(plain, 3),
                    "tome_ms": round(merged, 3),
                    "ratio": round(merged / plain, 3),
                    "fp_lowest_ms": round(quick, 3),
                    "tome_lowest_ms": round(quick_merged, 3),
                    "lowest_ratio": round(quick_merged / quick, 3),
                    "fidelity": pair[1].parity.fidelity if pair[1].parity else None,
                }
            )
            for session in sessions:
                session.close()
    return rows


def measure(
    model: ferrule.Model, pictures: Tensor, labels: Tensor, options: dict[str, Any], seeds: int
) -> dict[str, Any]:
    """Accuracies in per cent, and the work that is left."""

    def merged(**more: Any) -> nn.Module:
        recipe = {"steps": [{"technique": "tome", "options": {**options, **more}}]}
        return ferrule.compress(model, recipe).entry_points["forward"].module

    base = model.entry_points["forward"].module
    tome = merged()
    return {
        "model": model.source,
        "pictures": len(labels),
        "options": options,
        "work": work(tome, base, pictures[:1]),
        "accuracy": {
            "fp": accuracy(base, pictures, labels),
            "tome": accuracy(tome, pictures, labels),
            "tome, prop_attn off": accuracy(merged(prop_attn=False), pictures, labels),
            "random merging": at_random(tome, pictures, labels, seeds),
        },
    }


def load(weights: Path | None) -> ferrule.Model:
    """`sample:vit`, or the same architecture with weights from a file."""
    if weights is None:
        return ferrule.load_model("sample:vit")
    from safetensors.torch import load_file

    from ferrule.sources.vit_sample import FashionViT

    module = FashionViT().eval()
    module.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    image = FashionViT.standardise(torch.randint(256, (1, 1, 28, 28), generator=torch.Generator().manual_seed(0)))
    entry = ferrule.EntryPoint(module, {"image": image})
    return ferrule.Model({"forward": entry}, source="sample:vit", proof_source="noise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--weights", type=Path, default=None, help="of FashionViT, where sample:vit holds none")
    parser.add_argument("--count", type=int, default=10_000, help="test pictures, from the first on")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/results/tome.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = load(arguments.weights)
    pictures, labels = read(arguments.data, arguments.count)
    options = {"r": 24, "schedule": "decreasing"}
    result = measure(model, pictures, labels, options, arguments.seeds)
    recipe = Recipe("tome24-decreasing", (Step("tome", options),), 0.5)
    result["latency"] = latency(model, recipe, arguments.rounds)
    result["command"] = "python benchmarks/tome.py " + " ".join(sys.argv[1:])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
