"""What all are measured on: the first tokens of some tales, a file each, with the answers of torch in float32."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CAPACITY", "PROMPT", "STEPS", "WINDOW", "continue_greedily", "read_text", "write_texts"]

WINDOW = 256
"""Tokens of a text."""
PROMPT = 128
"""Tokens of it that are a prompt."""
STEPS = 32
"""Tokens that are generated after a prompt, each the likeliest."""
CAPACITY = WINDOW
"""Tokens that a cache holds."""


def read_text(folder: Path, number: int) -> dict[str, NDArray[Any]]:
    """ids int64 [256], logits float32 [256, words], greedy int64 [32]: what torch goes on with after the prompt."""
    with np.load(folder / f"text-{number}.npz") as file:
        return {name: file[name] for name in file.files}


def write_texts(folder: Path, count: int) -> None:
    """As many texts as are asked for, unless they are there."""
    if all((folder / f"text-{number}.npz").is_file() for number in range(count)):
        return
    from benchmarks.decoder.runners import Torch
    from benchmarks.decoder.smollm2 import load_tales, load_tokenizer

    tokenizer, runner = load_tokenizer(), Torch(2)
    rows = [ids for ids in (tokenizer(tale).input_ids[:WINDOW] for tale in load_tales()) if len(ids) == WINDOW]
    for number, row in enumerate(rows[:count]):
        ids = np.array(row)
        made = folder / f".text-{number}.npz"
        np.savez(made, ids=ids, logits=runner.logits(ids), greedy=continue_greedily(runner, ids[:PROMPT], STEPS))
        os.replace(made, folder / f"text-{number}.npz")


def continue_greedily(runner: Any, prompt: NDArray[Any], steps: int) -> NDArray[Any]:
    """int64 [steps]: the likeliest token after the prompt, then after each of them."""
    tokens = [int(runner.prefill(prompt).argmax())]
    for position in range(len(prompt), len(prompt) + steps - 1):
        tokens.append(int(runner.step(tokens[-1], position).argmax()))
    return np.array(tokens)
