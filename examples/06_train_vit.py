"""Train the sample `sample:vit` again: a small ViT of 197 tokens on Fashion-MNIST.

    python examples/06_train_vit.py --data /usr/share/datasets/fashion-mnist --out .

The data are Debian's package dataset-fashion-mnist. Training runs on half-size pictures (49 tokens) first, which is
six times quicker, and then on full ones: the blocks carry over, the position table is resized. About 30 minutes on one
core that multiplies bfloat16. Two files are written, and those in `sdk/data` came from here: `vit_fashion.safetensors`,
float16 weights (0.6 MB), and `fashion.safetensors`, 256 training pictures to calibrate on, 64 test pictures for proofs.
"""

from __future__ import annotations

import argparse
import gzip
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ferrule.sources.vit_sample import FashionViT

BATCH = 128


def read(data: Path, split: str) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [n, 28, 28] and labels int64 [n]."""
    images = np.frombuffer(gzip.decompress((data / f"{split}-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((data / f"{split}-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return torch.from_numpy(images.reshape(-1, 28, 28).copy()), torch.from_numpy(labels.astype(np.int64))


def prepare(pictures: Tensor, half: bool) -> Tensor:
    """float32 [n, 1, side, side], standardised as `sample:vit` expects."""
    x = FashionViT.standardise(pictures[:, None])
    return F.avg_pool2d(x, 2) if half else x


def resize_positions(small: FashionViT, large: FashionViT) -> None:
    """Carry the weights of a 14 x 14 model over to a 28 x 28 one."""
    state = small.state_dict()
    table = state["vit.pos_embed"]
    grid = table[:, 1:].unflatten(1, (7, 7)).permute(0, 3, 1, 2)
    grown = F.interpolate(grid, size=(14, 14), mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
    state["vit.pos_embed"] = torch.cat([table[:, :1], grown], 1)
    large.load_state_dict(state)


def train(model: FashionViT, pictures: Tensor, labels: Tensor, steps: int, rate: float, half: bool) -> None:
    """AdamW with a one-cycle rate, random flips and shifts by up to two pixels."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    started, running = time.time(), 0.0
    for step in range(steps):
        chosen = torch.randint(len(pictures), (BATCH,))
        batch = pictures[chosen]
        flip = torch.rand(BATCH) < 0.5
        batch = torch.where(flip[:, None, None], batch.flip(-1), batch)
        dy, dx = torch.randint(-2, 3, (2,)).tolist()
        x = prepare(torch.roll(batch, (dy, dx), (1, 2)), half)
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x).float(), labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running += loss.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{steps} loss {running / 50:.3f} {time.time() - started:.0f} s", flush=True)
            running = 0.0


@torch.no_grad()
def accuracy(model: FashionViT, pictures: Tensor, labels: Tensor, half: bool) -> float:
    """Share of pictures told right."""
    model.eval()
    right = 0
    for part, truth in zip(pictures.split(250), labels.split(250), strict=True):
        right += int((model(prepare(part, half)).argmax(-1) == truth).sum())
    return right / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for the two files")
    parser.add_argument("--epochs", type=float, nargs=2, default=(10.0, 4.0), metavar=("HALF", "FULL"))
    parser.add_argument("--limit", type=int, default=None, help="use the first N pictures of either split only")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images, labels = (t[: arguments.limit] for t in read(arguments.data, "train"))
    test = tuple(t[: arguments.limit] for t in read(arguments.data, "t10k"))
    steps = [max(1, math.ceil(epochs * len(images) / BATCH)) for epochs in arguments.epochs]
    small, large = FashionViT(side=14), FashionViT(side=28)
    train(small, images, labels, steps[0], 2e-3, half=True)
    print(f"half-size pictures: test accuracy {accuracy(small, *test, half=True):.4f}", flush=True)
    resize_positions(small, large)
    train(large, images, labels, steps[1], 1e-3, half=False)
    print(f"full-size pictures: test accuracy {accuracy(large, *test, half=False):.4f}", flush=True)
    save_file(
        {k: v.half().contiguous() for k, v in large.state_dict().items()}, arguments.out / "vit_fashion.safetensors"
    )
    pictures = {"calibration": images[:256], "proof": test[0][:64], "proof_labels": test[1][:64]}
    save_file({k: v.contiguous() for k, v in pictures.items()}, arguments.out / "fashion.safetensors")


if __name__ == "__main__":
    main()
