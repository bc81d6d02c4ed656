"""The measuring itself: a process for each way, visited in rounds A B C A B C, medians with p10 and p90."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decoder.runners import OURS, PEERS
from benchmarks.decoder.smollm2 import GGUF, find_gguf
from benchmarks.decoder.texts import PROMPT, STEPS, WINDOW
from ferrule.runtime.bench.measure import host
from ferrule.runtime.bench.process import Process, until_interrupted

__all__ = ["Found", "bench_decoder"]

DISTRIBUTIONS = {"torch": "torch", "llama.cpp": "llama-cpp-python"}


@dataclass
class Found:
    """What was measured. rows: one for each way and number of threads; one with `error` where something failed.

    absent: peer -> why it is not among the rows. complete: whether all was measured.
    """

    complete: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    texts: int = 0
    reference_perplexity: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dict."""
        facts = {"model": GGUF, "window": WINDOW, "prompt": PROMPT, "steps": STEPS}
        return {"machine": host(), **facts, **self.__dict__}


def bench_decoder(
    recipes: Sequence[str],
    peers: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    texts: int,
    folder: Path,
    tell: Callable[[str], None],
    keep: Callable[[Found], None],
) -> Found:
    """Measure the recipes beside the peers that are installed; `tell` gets a line for each step, `keep` what there is
    after each number of threads.

    folder: for texts and programs; what is there already is taken. Ctrl-C ends it early: then what there is comes
    back, incomplete.
    """
    found = Found(texts=texts)
    for peer in peers:
        if find_spec(PEERS[peer]) is None:
            found.absent[peer] = "not installed"
        else:
            found.versions[peer] = metadata.version(DISTRIBUTIONS[peer])
    with until_interrupted(found):
        ways = _prepare(recipes, [peer for peer in peers if peer in found.versions], texts, folder, tell)
        for count in threads:
            _measure(ways, count, rounds, folder, found, tell)
            keep(found)
    return found


def _prepare(
    recipes: Sequence[str], peers: Sequence[str], texts: int, folder: Path, tell: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Way -> bytes of its file, or the error with which making it ended. Raises RuntimeError without texts."""
    ways: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        process = stack.enter_context(_preparer(folder))
        tell(f"{texts} texts and torch's answers to them")
        answer = process.ask(do="texts", count=texts)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        for recipe in recipes:
            tell(f"{OURS} {recipe}: writing its program")
            if process.ended:
                process = stack.enter_context(_preparer(folder))
            ways[f"{OURS} {Path(recipe).stem}"] = process.ask(do="convert", recipe=recipe)
    sizes = {"torch": None, "llama.cpp": find_gguf().stat().st_size}
    return ways | {peer: {"bytes": sizes[peer]} for peer in peers}


def _preparer(folder: Path) -> Process:
    return Process("benchmarks.decoder.prepare", str(folder), threads=2)


def _measure(
    ways: Mapping[str, dict[str, Any]],
    threads: int,
    rounds: int,
    folder: Path,
    found: Found,
    tell: Callable[[str], None],
) -> None:
    rows = {way: {"way": way, "threads": threads, **facts} for way, facts in ways.items()}
    known = {row["way"]: row for row in found.rows}
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        for way, row in rows.items():
            if "error" not in row:
                tell(f"{way}, {threads} threads: opening" + ("" if way in known else ", and its quality"))
                arguments = ("benchmarks.decoder.worker", way, str(folder), str(threads))
                process = stack.enter_context(Process(*arguments, threads=threads))
                row |= process.ask(do="open")
                row |= _known_quality(known[way]) if way in known else _quality(process, found)
                processes[way] = process
        times: dict[str, list[dict[str, float]]] = {way: [] for way in rows if "error" not in rows[way]}
        for number in range(rounds):
            tell(f"{threads} threads: round {number + 1} of {rounds}")
            for way in [way for way in times if "error" not in rows[way]]:
                answer = processes[way].ask(do="time")
                if "error" in answer:
                    rows[way] |= answer
                else:
                    times[way].append(answer)
    for way, samples in times.items():
        if "error" not in rows[way]:
            rows[way] |= _speeds(samples)
    found.rows += rows.values()


def _quality(process: Process, found: Found) -> dict[str, Any]:
    """Over all texts: lowest and mean cosine, perplexity, tokens that are torch's."""
    answers = [process.ask(do="quality", text=number) for number in range(found.texts)]
    for answer in answers:
        if "error" in answer:
            return answer
    found.reference_perplexity = round(float(np.exp(np.mean([a["reference_loss"] for a in answers]))), 3)
    return {
        "cosine": round(min(a["cosine"] for a in answers), 6),
        "cosine_mean": round(float(np.mean([a["cosine"] for a in answers])), 6),
        "perplexity": round(float(np.exp(np.mean([a["loss"] for a in answers]))), 3),
        "greedy": sum(a["greedy"] for a in answers),
        "greedy_of": STEPS * found.texts,
    }


def _known_quality(row: Mapping[str, Any]) -> dict[str, Any]:
    """It was measured with another number of threads, which change nothing but the order of sums."""
    names = ("cosine", "cosine_mean", "perplexity", "greedy", "greedy_of", "error")
    return {name: row[name] for name in names if name in row}


def _speeds(samples: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Tokens a second."""
    told: dict[str, Any] = {}
    for what in ("prefill", "decode"):
        low, middle, high = (float(v) for v in np.percentile([sample[what] for sample in samples], (10, 50, 90)))
        told |= {f"{what}_tokens_s": round(middle, 1), f"{what}_p10_p90": [round(low, 1), round(high, 1)]}
    return told
