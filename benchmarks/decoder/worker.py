"""The measuring process of one way to run the decoder: `python -m benchmarks.decoder.worker WAY FOLDER THREADS`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decoder.runners import open_runner
from benchmarks.decoder.texts import PROMPT, STEPS, continue_greedily, read_text
from ferrule.proof import likeness
from ferrule.runtime.bench.process import pin, serve


class Worker:
    """The decoder, opened by one runtime. folder: the texts'; a program of ours lies in one of its folders."""

    def __init__(self, way: str, folder: str, threads: int) -> None:
        self.folder = Path(folder)
        self.runner = open_runner(way, self.folder / way.rpartition(" ")[2], threads)
        self.prompt = read_text(self.folder, 0)["ids"][:PROMPT]

    def open(self) -> dict[str, Any]:
        """Once through, unmeasured."""
        self.time()
        return {}

    def time(self) -> dict[str, Any]:
        """Tokens a second: reading the prompt, and the tokens after it one by one, each chosen by the last logits."""
        start = time.perf_counter()
        token = int(self.runner.prefill(self.prompt).argmax())
        read = time.perf_counter()
        for position in range(PROMPT, PROMPT + STEPS):
            token = int(self.runner.step(token, position).argmax())
        end = time.perf_counter()
        return {"prefill": PROMPT / (read - start), "decode": STEPS / (end - read)}

    def quality(self, text: int) -> dict[str, Any]:
        """On one text: cosine of all logits to torch's, mean negative log-likelihood of the next token, and how many
        tokens after the prompt are torch's before the first that is another."""
        wanted = read_text(self.folder, text)
        logits, ids = self.runner.logits(wanted["ids"]), wanted["ids"]
        tokens = continue_greedily(self.runner, ids[:PROMPT], STEPS)
        return {
            "cosine": likeness(wanted["logits"], logits),
            "loss": _loss(logits, ids),
            "reference_loss": _loss(wanted["logits"], ids),
            "greedy": int(np.argmin([*(tokens == wanted["greedy"]), False])),
        }


def _loss(logits: Any, ids: Any) -> float:
    """Mean negative log-likelihood of each token but the first."""
    rows = logits[:-1].astype(np.float64)
    top = rows.max(-1, keepdims=True)
    total = top[:, 0] + np.log(np.exp(rows - top).sum(-1))
    return float((total - rows[np.arange(len(rows)), ids[1:]]).mean())


if __name__ == "__main__":
    pin(int(sys.argv[3]))
    serve(lambda: Worker(sys.argv[1], sys.argv[2], int(sys.argv[3])))
