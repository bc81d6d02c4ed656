"""The measuring itself: a process for each way, visited in rounds A B C A B C, medians with p10 and p90."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.runtime.bench.measure import host
from ferrule.runtime.bench.models.case import OURS, PEERS, ModelCase, package_of
from ferrule.runtime.bench.models.inputs import read_arrays
from ferrule.runtime.bench.process import Process, until_interrupted

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Found", "bench_models"]

TEXTS = -1
"""Stands for the proof inputs at their own lengths."""
FOOTPRINT_LENGTH = 128


@dataclass
class Found:
    """What was measured. absent: peer -> why it is not among the rows; failed: what -> what was raised.

    complete: whether all was measured.
    """

    complete: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    footprints: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain dict: what `ferrule bench models --json` prints."""
        return {"machine": host(), **self.__dict__}


def bench_models(
    cases: Sequence[ModelCase],
    peers: Sequence[str] = tuple(PEERS),
    threads: Sequence[int] = (1,),
    rounds: int = 15,
    folder: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
    keep: Callable[[Found], None] = lambda found: None,
) -> Found:
    """Measure the models beside the peers that are installed; `tell` gets a line for each step, `keep` what there is
    after each shape.

    folder: where the files that are measured stay for the next time; by default they are removed. Ctrl-C ends it early:
    then what there is comes back, incomplete.
    """
    found = Found()
    for peer in peers:
        if find_spec(PEERS[peer]) is None:
            found.absent[peer] = "not installed"
        else:
            found.versions[peer] = metadata.version(PEERS[peer].replace("_", "-"))
    there = [peer for peer in peers if peer in found.versions]
    with until_interrupted(found), TemporaryDirectory(prefix="ferrule-bench-") as temporary:
        for case in cases:
            _Bench(case, there, (folder or Path(temporary)) / case.name, rounds, found, tell, keep).run(threads)
    return found


class _Bench:
    """One model."""

    def __init__(
        self,
        case: ModelCase,
        peers: Sequence[str],
        root: Path,
        rounds: int,
        found: Found,
        tell: Callable[[str], None],
        keep: Callable[[Found], None],
    ) -> None:
        self.case, self.peers, self.root, self.rounds = case, peers, root, rounds
        self.found, self.tell, self.keep = found, tell, keep
        self.bytes: dict[tuple[str, str], int] = {}
        self.cosines: dict[tuple[str, str, int], tuple[float, float] | None] = {}

    def run(self, threads: Sequence[int]) -> None:
        """Prepare all files, then measure them."""
        dtypes = {**self.case.recipes, **self.case.further}
        self._prepare(dtypes)
        for dtype in dtypes:
            ways = self._ways(dtype)
            if (OURS, dtype) in ways:
                for count in threads:
                    self._measure(dtype, ways, count)
                self._footprints(dtype, ways)

    def _ways(self, dtype: str) -> list[tuple[str, str]]:
        """(way, dtype of its file): ours first; programs of ours that do less meet the peers' int8."""
        kind = dtype.partition(" ")[0]
        others = [way for way in self.case.peers[kind] if package_of(way) in self.peers]
        return [each for each in ((OURS, dtype), *((way, kind) for way in others)) if each in self.bytes]

    def _prepare(self, dtypes: Mapping[str, str]) -> None:
        wanted = {(OURS, dtype): recipe for dtype, recipe in dtypes.items()}
        for dtype, ways in self.case.peers.items():
            recipe = self.case.recipes.get(dtype, "")
            wanted |= {(way, dtype): recipe for way in ways if package_of(way) in self.peers and dtype in dtypes}
        with ExitStack() as stack:
            process = stack.enter_context(self._preparer())
            self._ask(process, f"{self.case.name}: inputs", do="inputs")
            for (way, dtype), recipe in wanted.items():
                what = f"{self.case.name}: {way} {dtype}"
                self.tell(f"{what}: writing its files")
                if process.ended:
                    process = stack.enter_context(self._preparer())
                answer = self._ask(process, what, do="prepare", way=way, dtype=dtype, recipe=recipe)
                if answer is not None:
                    self.bytes[way, dtype] = answer["bytes"]

    def _preparer(self) -> Process:
        return Process("ferrule.runtime.bench.models.prepare", self.case.name, str(self.root), threads=2)

    def _ask(self, process: Process, what: str, **question: Any) -> dict[str, Any] | None:
        """The answer; None for an error, which is kept."""
        answer = process.ask(**question)
        if "error" in answer:
            self.found.failed[what] = answer["error"]
            return None
        return answer

    def _start(self, way: tuple[str, str], threads: int) -> Process:
        module = "ferrule.runtime.bench.models.worker"
        return Process(module, self.case.name, *way, str(self.root), str(threads), threads=threads)

    def _measure(self, dtype: str, ways: Sequence[tuple[str, str]], threads: int) -> None:
        with ExitStack() as stack:
            processes = {way: stack.enter_context(self._start(way, threads)) for way in ways}
            shapes = [*self.case.lengths, *([TEXTS] if self.case.lengths[0] else [])]
            for length in shapes:
                shape = self._shape(length)
                self.tell(f"{self.case.name} {dtype}, {shape}, {threads} threads")
                question = {"do": "open_texts"} if length == TEXTS else {"do": "open", "length": length}
                what = f"{self.case.name} {shape}, {threads} threads"
                times: dict[tuple[str, str], list[float]] = {}
                for way, process in processes.items():
                    if self._ask(process, f"{what}: {' '.join(way)}", **question) is not None:
                        times[way] = []
                        self._compare(process, way, length)
                for _ in range(self.rounds):
                    for way, samples in times.items():
                        samples.append(processes[way].ask(do="time").get("us", float("nan")))
                if (OURS, dtype) in times:
                    self.found.rows += self._rows(dtype, shape, length, threads, times)
                    self.keep(self.found)

    def _shape(self, length: int) -> str:
        if length == TEXTS:
            return "texts"
        (inputs,) = read_arrays(self.root / f"inputs-{length}.npz")
        return "x".join(map(str, next(iter(inputs.values())).shape))

    def _compare(self, process: Process, way: tuple[str, str], length: int) -> None:
        """Lowest and mean cosine to the float32 model's answers, once for each length."""
        key = (*way, length)
        if length == TEXTS or key in self.cosines:
            return
        path = self.root / "found.npz"
        answer = self._ask(process, f"{' '.join(way)} answers", do="answers", length=length, path=str(path))
        self.cosines[key] = None
        if answer is not None:
            wanted = read_arrays(self.root / f"answers-{length}.npz")
            pairs = zip(wanted, read_arrays(path), strict=True)
            cosines = [_cosine(a["0"], b["0"]) for a, b in pairs]
            self.cosines[key] = min(cosines), float(np.mean(cosines))

    def _rows(
        self, dtype: str, shape: str, length: int, threads: int, times: Mapping[tuple[str, str], Sequence[float]]
    ) -> Iterator[dict[str, Any]]:
        """A row for each peer; one without a peer where there is none."""

        def told(way: tuple[str, str], whose: str) -> dict[str, Any]:
            low, middle, high = (float(v) for v in np.nanpercentile(times[way], (10, 50, 90)))
            cosine = self.cosines.get((*way, length))
            prefix = "" if whose == "ours" else "peer_"
            return {
                f"{whose}_us": round(middle, 1),
                f"{whose}_p10_p90": [round(low, 1), round(high, 1)],
                f"{prefix}cosine": None if cosine is None else round(cosine[0], 5),
                f"{prefix}cosine_mean": None if cosine is None else round(cosine[1], 5),
                f"{prefix}file_mb": round(self.bytes[way] / 1e6, 2),
            }

        row = {"model": self.case.name, "shape": shape, "dtype": dtype, "threads": threads, "peer": None, "ratio": None}
        row |= told((OURS, dtype), "ours")
        others = [way for way in times if way[0] != OURS]
        if not others:
            yield row
        for way in others:
            theirs = told(way, "peer")
            yield row | {"peer": way[0], "ratio": round(theirs["peer_us"] / row["ours_us"], 3)} | theirs

    def _footprints(self, dtype: str, ways: Sequence[tuple[str, str]]) -> None:
        """Opening, first run and memory, each in a process that does nothing else."""
        length = FOOTPRINT_LENGTH if FOOTPRINT_LENGTH in self.case.lengths else self.case.lengths[0]
        for way in ways:
            if dtype in self.case.further and way[0] != OURS:
                continue
            what = f"footprint of {self.case.name}, {' '.join(way)}"
            self.tell(what)
            with self._start(way, 1) as process:
                opened = self._ask(process, what, do="open", length=length)
                timed = opened and self._ask(process, what, do="time")
                peak = timed and self._ask(process, what, do="footprint")
            if opened and timed and peak:
                self.found.footprints.append(
                    {
                        "model": self.case.name,
                        "shape": self._shape(length),
                        "dtype": dtype,
                        "way": way[0],
                        "file_mb": round(self.bytes[way] / 1e6, 2),
                        "load_ms": round(opened["load_ms"], 1),
                        "first_ms": round(opened["first_ms"], 3),
                        "warm_ms": round(timed["us"] / 1e3, 3),
                        "peak_mb": round(peak["peak_mb"], 1),
                    }
                )
                self.keep(self.found)


def _cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = (each.astype(np.float64).ravel() for each in (a, b))
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-30))
