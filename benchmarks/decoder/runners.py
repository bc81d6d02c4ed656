"""How each runtime reads a prompt and goes on with it: opened once, a cache of its own, one token a step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from benchmarks.decoder.texts import CAPACITY

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OURS", "PEERS", "PROGRAM", "LlamaCpp", "Native", "Runner", "Torch", "open_runner"]

OURS = "ferrule"
PEERS = {"torch": "torch", "llama.cpp": "llama_cpp"}
"""Peers, and the package that each needs."""
PROGRAM = "program.json"


class Runner(Protocol):
    """`prefill` reads a prompt from an empty cache, `step` one more token; both answer the last token's logits [words].

    `logits` answers those of all tokens, [tokens, words].
    """

    def prefill(self, ids: NDArray[Any]) -> NDArray[Any]: ...

    def step(self, token: int, position: int) -> NDArray[Any]: ...

    def logits(self, ids: NDArray[Any]) -> NDArray[Any]: ...


def open_runner(way: str, folder: Path, threads: int) -> Runner:
    """What runs a way: a peer, or ours with the files of the folder."""
    if way == "torch":
        return Torch(threads)
    return LlamaCpp(threads) if way == "llama.cpp" else Native(folder, threads)


class Native:
    """Our program of two entry points."""

    def __init__(self, folder: Path, threads: int) -> None:
        from ferrule.program import Program
        from ferrule.runtime.session import open_program

        program = Program.from_json(json.loads((folder / PROGRAM).read_text()))
        self.session = open_program(folder / program.main, program.target, program.entry_points, threads)

    def prefill(self, ids: NDArray[Any]) -> NDArray[Any]:
        return self._prefill(ids, np.array([len(ids) - 1])).reshape(-1)

    def logits(self, ids: NDArray[Any]) -> NDArray[Any]:
        return self._prefill(ids, np.arange(len(ids)))

    def _prefill(self, ids: NDArray[Any], kept: NDArray[Any]) -> NDArray[Any]:
        inputs = {"ids": ids[None], "position": np.array([0]), "kept": kept}
        found: NDArray[Any] = self.session.run(inputs, "prefill")["logits"][0]
        return found

    def step(self, token: int, position: int) -> NDArray[Any]:
        inputs = {"ids": np.array([[token]]), "position": np.array([position])}
        found: NDArray[Any] = self.session.run(inputs, "decode")["logits"][0, 0]
        return found


class Torch:
    """The module itself in float32, over the same static cache."""

    def __init__(self, threads: int) -> None:
        import torch

        from benchmarks.decoder.smollm2 import Cached, load_module

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.module = Cached(load_module("sdpa"), CAPACITY).eval()

    def prefill(self, ids: NDArray[Any]) -> NDArray[Any]:
        return self._run(ids, 0).reshape(-1)

    def step(self, token: int, position: int) -> NDArray[Any]:
        return self._run(np.array([token]), position).reshape(-1)

    def logits(self, ids: NDArray[Any]) -> NDArray[Any]:
        return self._run(ids, 0, np.arange(len(ids)))

    def _run(self, ids: NDArray[Any], position: int, kept: NDArray[Any] | None = None) -> NDArray[Any]:
        import torch

        rows = None if kept is None else torch.from_numpy(kept)
        found: NDArray[Any] = self.module(torch.from_numpy(ids)[None], torch.tensor([position]), rows)[0].numpy()
        return found


class LlamaCpp:
    """llama.cpp on the very GGUF file, by its Python package."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.model = self._open(False)
        self.telling: Any = None

    def _open(self, logits_all: bool) -> Any:
        from llama_cpp import Llama

        from benchmarks.decoder.smollm2 import find_gguf

        return Llama(
            str(find_gguf()),
            n_ctx=CAPACITY,
            n_threads=self.threads,
            n_threads_batch=self.threads,
            logits_all=logits_all,
            verbose=False,
        )

    def prefill(self, ids: NDArray[Any]) -> NDArray[Any]:
        return self._run(ids, 0)

    def step(self, token: int, position: int) -> NDArray[Any]:
        return self._run(np.array([token]), position)

    def _run(self, ids: NDArray[Any], position: int) -> NDArray[Any]:
        from llama_cpp import llama_get_logits_ith

        self.model.n_tokens = position  # what the cache holds beyond is dropped
        self.model.eval(ids.tolist())
        return np.ctypeslib.as_array(llama_get_logits_ith(self.model.ctx, -1), (self.model.n_vocab(),))

    def logits(self, ids: NDArray[Any]) -> NDArray[Any]:
        self.telling = self.telling or self._open(True)
        self.telling.reset()
        self.telling.eval(ids.tolist())
        found: NDArray[Any] = self.telling.scores[: len(ids)]
        return found
