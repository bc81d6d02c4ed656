"""Our kernels inside ONNX Runtime and ExecuTorch beside what the runtimes have of their own, one op a program.

    python benchmarks/custom_ops.py --json docs/results/custom_ops.json

Every program is one layer, run by the engine of a session, so that the engines' own cost (conversions of arrays) is in
every row alike. The programs of a group run by turns; times are milliseconds, median with tenth and ninetieth
percentile. Weights and caches stay the same from run to run, and so in the processor's caches where they fit. `error`
is the largest difference to the float computation, relative to its largest value.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ferrule.codec import encode_affine
from ferrule.coded import ACTIVATION_DYNAMIC, ACTIVATION_NONE, CodedLinear
from ferrule.converters import find_target
from ferrule.device_profiles import load
from ferrule.model import as_model, capture
from ferrule.palette import encode_lookup
from ferrule.runtime import torch_ops
from ferrule.runtime.bench.process import command_line
from ferrule.runtime.session import open_program
from ferrule.techniques.tokens.merging import match_tokens, merge_all, normalise_keys

DEVICES = {"onnx": "raspberry-pi-5", "executorch": "galaxy-s24"}
SHAPES = ((128, 768, 3072), (1, 2048, 2048))  # rows, inputs, outputs
HEADS, HEAD_SIZE, CACHE = 16, 64, 2048
TOKENS, WIDTH, MERGED = 197, 384, 16

ops = torch.ops.ferrule


@dataclass(frozen=True)
class Program:
    """One way to compute what a group computes."""

    way: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    ours: bool = False


class Attention(nn.Module):
    """Float attention as a model writes it: the runtime's own kernels run it."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(query, key, value)


class CodedAttention(nn.Module):
    """Attention over an int8 cache, by our kernel."""

    def forward(
        self, query: Tensor, keys: Tensor, key_scales: Tensor, key_offsets: Tensor, values: Tensor, scales: Tensor,
        offsets: Tensor,
    ) -> Tensor:  # fmt: skip
        y: Tensor = ops.attention_quantized(
            query, keys, key_scales, key_offsets, values, scales, offsets, None, 8, 0, HEAD_SIZE**-0.5, False
        )
        return y


class Merging(nn.Module):
    """One layer's token merging by our kernels."""

    def forward(self, keys: Tensor, x: Tensor) -> Tensor:
        plan, _ = ops.token_match(keys, None, None, MERGED, 1)
        merged: Tensor = ops.token_merge(x, plan, None, TOKENS - MERGED)[0]
        return merged


class PlainMerging(nn.Module):
    """The same by ops that every target has, as the technique `tome` writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((HEAD_SIZE, 1), 1 / HEAD_SIZE))
        self.register_buffer("positions", torch.arange(float(TOKENS)))

    def forward(self, keys: Tensor, x: Tensor) -> Tensor:
        matching = match_tokens(normalise_keys(keys, self.mean), None, 1)
        return merge_all(x, None, matching, MERGED, self.positions)[0]


def linear_programs(rows: int, inputs: int, outputs: int) -> Iterator[Program]:
    torch.manual_seed(rows)
    x, plain = (torch.randn(rows, inputs),), nn.Linear(inputs, outputs).eval()
    weight, bias = plain.weight.detach(), plain.bias.detach()
    yield Program("float32", plain, x)
    affine = encode_affine(weight, 4, 32)
    yield Program("int4, groups of 32, dynamic int8", CodedLinear(affine, bias, ACTIVATION_DYNAMIC).eval(), x)
    lookup = encode_lookup(weight, 4, 16)
    yield Program("4-bit palettes, float", CodedLinear(lookup, bias, ACTIVATION_NONE).eval(), x, True)
    yield Program("4-bit palettes, dynamic int8", CodedLinear(lookup, bias, ACTIVATION_DYNAMIC).eval(), x, True)


def attention_programs() -> Iterator[Program]:
    torch.manual_seed(0)
    query, key, value = torch.randn(1, HEADS, 1, HEAD_SIZE), *torch.randn(2, 1, HEADS, CACHE, HEAD_SIZE)
    yield Program("float32", Attention(), (query, key, value))
    coded = (*torch_ops.quantize_kv(key, 8, 0, 1.0), *torch_ops.quantize_kv(value, 8, 0, 1.0))
    yield Program("int8 cache", CodedAttention(), (query, *coded), True)


def merging_programs() -> Iterator[Program]:
    torch.manual_seed(0)
    inputs = (torch.randn(1, WIDTH // HEAD_SIZE, TOKENS, HEAD_SIZE), torch.randn(1, TOKENS, WIDTH))
    yield Program("plain ops", PlainMerging(), inputs)
    yield Program("our two ops", Merging(), inputs, True)


GROUPS: Mapping[str, Callable[[], Iterator[Program]]] = {
    **{f"linear {m} x {k} x {n}": (lambda s=(m, k, n): linear_programs(*s)) for m, k, n in SHAPES},
    f"attention, 1 query, {HEADS} heads of {HEAD_SIZE}, cache of {CACHE}": attention_programs,
    f"token merging, {TOKENS} tokens of {WIDTH}, {MERGED} merged": merging_programs,
}


def open_ways(target: str, programs: list[Program], folder: Path, threads: int) -> Iterator[tuple[Program, Any, Any]]:
    """Each program lowered and opened: a function that runs it once, and the artefact's size."""
    for number, program in enumerate(programs):
        place = folder / str(number)
        place.mkdir()
        graphs = capture(as_model(program.module, program.inputs))
        lowered = find_target(target).lower()(graphs, load(DEVICES[target]), place, kernels=True)
        called = any(row.unit == "cpu:ferrule" for row in lowered.delegation)
        assert called == program.ours, f"{target}: {program.way} is not computed by what the row says"
        session = open_program(place / lowered.main, target, lowered.entry_points, threads)
        specs = lowered.entry_points["forward"].inputs
        feeds = {spec.name: value.numpy() for spec, value in zip(specs, program.inputs, strict=True)}
        size = sum(path.stat().st_size for path in place.iterdir())
        yield program, (lambda s=session, f=feeds: s.engine.run("forward", f)), size


def measure(target: str, group: str, rounds: int, threads: int) -> list[dict[str, Any]]:
    programs = list(GROUPS[group]())
    with torch.no_grad():
        wanted = programs[0].module(*programs[0].inputs).numpy()
    with tempfile.TemporaryDirectory(prefix="ferrule-") as scratch:
        ways = list(open_ways(target, programs, Path(scratch), threads))
        answers = [run()[0] for _, run, _ in ways]
        times: list[list[float]] = [[] for _ in ways]
        for _ in range(rounds):
            for (_, run, _), own in zip(ways, times, strict=True):
                start = time.perf_counter()
                run()
                own.append(1e3 * (time.perf_counter() - start))
    rows = []
    for (program, _, size), own, answer in zip(ways, times, answers, strict=True):
        low, middle, high = (round(float(v), 4) for v in np.percentile(own, (10, 50, 90)))
        error = float(np.abs(answer - wanted).max() / np.abs(wanted).max())
        rows.append(
            {
                "group": group,
                "target": target,
                "way": program.way,
                "kernel": "Ferrule" if program.ours else "its own",
                "ms": middle,
                "p10": low,
                "p90": high,
                "bytes": size,
                "error": round(error, 6),
            }  # fmt: skip
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    group = None
    for row in rows:
        if (row["group"], row["target"]) != group:
            group = row["group"], row["target"]
            print(f"\n{row['group']}, {row['target']}")
        times = f"{row['ms']:9.3f} ms ({row['p10']:.3f} to {row['p90']:.3f})"
        print(f"  {row['way']:34} {row['kernel']:8} {times:36} {row['bytes']:>10,} B  error {row['error']:.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", action="append", choices=tuple(DEVICES), help="all of them by default")
    parser.add_argument("--only", default="", help="groups whose name holds this text")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict[str, Any]] = []
    for target in arguments.target or DEVICES:
        for group in GROUPS:
            if arguments.only in group:
                rows += measure(target, group, arguments.rounds, arguments.threads)
    show(rows)
    if arguments.json:
        command = command_line("python", "benchmarks/custom_ops.py", *sys.argv[1:])
        document = {"command": command, "threads": arguments.threads, "rounds": arguments.rounds, "rows": rows}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
