"""`ferrule bench`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from ferrule.cli.output import EXIT_INTERRUPTED, EXIT_NONE, EXIT_SOME, json_option, print_json, print_table, tell
from ferrule.errors import OutputError, TargetError

if TYPE_CHECKING:
    from ferrule.runtime.bench.kernels import Found as FoundKernels

__all__ = ["command"]

PEERS = ("torch", "onnxruntime", "openvino", "llama.cpp")
RUNTIMES = ("torch", "onnxruntime", "openvino", "litert", "executorch")
PEER_HELP = f"Only this peer ({', '.join(PEERS)}); repeatable."


class Found(Protocol):
    """What either benchmark measured, whole or not."""

    complete: bool
    rows: list[dict[str, Any]]
    absent: dict[str, str]
    failed: dict[str, str]

    def to_json(self) -> dict[str, Any]: ...


@click.group("bench")
def command() -> None:
    """Measure Ferrule's own code on this machine beside that of others.

    \b
    ferrule bench kernels --threads 1,2 --plot kernels.svg
    ferrule bench models --model minilm --threads 1,2

    The file of -o is written after each case; `complete` in it says whether that is all. Ctrl-C ends with what there
    is.
    """


def _read_counts(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(word) for word in value.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1 or max(counts) > 256:
        raise click.BadParameter(f"{value!r} is no list of numbers from 1 to 256, such as 1,2.", context, parameter)
    return counts


@command.command("kernels")
@click.option("--threads", default="1", show_default=True, callback=_read_counts, help="Numbers of threads, as 1,2.")
@click.option("--op", "ops", multiple=True, help="Only cases whose name (op, shape, dtype) holds this; repeatable.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(PEERS), metavar="PEER", help=PEER_HELP)
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(1, 1000), help="Rounds of each case.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the ratios: .svg or .png.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the JSON to this file.")
@json_option
def kernels(
    threads: tuple[int, ...],
    ops: tuple[str, ...],
    peers: tuple[str, ...],
    rounds: int,
    plot: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Time the native kernels beside torch, ONNX Runtime, OpenVINO and llama.cpp, as far as they are installed.

    Every package runs in a process of its own on the same cores; rounds visit them in turn. `ratio` is the peer's
    time by ours, above 1 where ours is faster; `share` the least time that this machine's measured peaks allow by
    ours. Measure on a machine that does nothing else.

    \b
    ferrule bench kernels
    ferrule bench kernels --op gemm --peer onnxruntime --threads 1,2 -o kernels.json --plot kernels.svg
    """
    from ferrule.runtime.bench.kernels import bench_kernels, list_cases

    cases = [case for case in list_cases() if not ops or any(op in case.name for op in ops)]
    if not cases:
        known = ", ".join(sorted({case.op for case in list_cases()}))
        raise click.BadParameter(f"no case holds {', '.join(ops)}; there are: {known}.", param_hint="--op")
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise click.BadParameter(f"{plot} ends in neither .svg nor .png.", param_hint="--plot")
    found = bench_kernels(cases, peers or PEERS, threads, rounds, tell, lambda found: _keep(out, found))
    _tell_end(found, out)
    if plot is not None and found.rows:
        _draw(plot, found)
    if as_json:
        print_json(_told(found))
    else:
        _print(found)
    return _exit_code(found, peers)


@command.command("models")
@click.option("--model", "models", multiple=True, help="Only this model (minilm, vit, efficientnet); repeatable.")
@click.option("--threads", default="1", show_default=True, callback=_read_counts, help="Numbers of threads, as 1,2.")
@click.option("--peer", "peers", multiple=True, help=f"Only this peer ({', '.join(RUNTIMES)}); repeatable.")
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(1, 1000), help="Rounds of each case.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep the files in this folder.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the JSON to this file.")
@json_option
def models(
    models: tuple[str, ...],
    threads: tuple[int, ...],
    peers: tuple[str, ...],
    rounds: int,
    keep: Path | None,
    out: Path | None,
    as_json: bool,
) -> int:
    """Time whole models on the native runtime beside other runtimes, as far as they are installed.

    Each runs in a process of its own, at its best setting (OpenVINO and LiteRT with static shapes); rounds visit them
    in turn. `ratio` is the peer's time by ours; `cosine` the lowest to the float32 model over the proof inputs. Files,
    opening, first run and memory are told apart. Measure on a machine that does nothing else.

    \b
    ferrule bench models
    ferrule bench models --model minilm --threads 1,2 --keep files -o models.json
    """
    from ferrule.runtime.bench.models import CASES, bench_models

    _require_known(models, CASES, "--model")
    _require_known(peers, RUNTIMES, "--peer")
    cases = [case for name, case in CASES.items() if not models or name in models]
    found = bench_models(cases, peers or RUNTIMES, threads, rounds, keep, tell, lambda found: _keep(out, found))
    _tell_end(found, out)
    if as_json:
        print_json(_told(found))
    else:
        _print_models(_told(found))
    return _exit_code(found, peers)


def _told(found: Found) -> dict[str, Any]:
    from ferrule.runtime.bench.process import command_line

    return {"command": command_line("ferrule", *sys.argv[1:]), **found.to_json()}


def _keep(path: Path | None, found: Found) -> None:
    """What there is, in the file that was asked for; one from before is kept until there is something."""
    from ferrule.atomic import write_json

    if path is None or not (found.rows or found.complete):
        return
    try:
        write_json(path, _told(found))
    except OSError as error:
        raise OutputError(
            "FER-OUT-001", f"{path} cannot be written: {error.strerror or error}.", "Give another file by -o."
        ) from error


def _tell_end(found: Found, out: Path | None) -> None:
    """Keep all that was found; say what is not there and why."""
    for peer, reason in found.absent.items():
        tell(f"absent: {peer} ({reason})")
    for what, reason in found.failed.items():
        tell(f"failed: {what} ({reason})")
    _keep(out, found)
    if not found.complete:
        kept = f", kept in {out} as incomplete" if out is not None and found.rows else ""
        click.echo(f"interrupted: all processes were ended; {len(found.rows)} rows{kept}", err=True)


def _exit_code(found: Found, peers: Sequence[str]) -> int:
    if not found.complete:
        return EXIT_INTERRUPTED
    if not found.rows:
        return EXIT_NONE
    return EXIT_SOME if found.failed or set(peers) & set(found.absent) else 0


def _require_known(names: Sequence[str], known: Iterable[str], option: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)} is not one of {', '.join(known)}.", param_hint=option)


def _print_models(told: Mapping[str, Any]) -> None:
    def ms(value: float | None) -> str:
        return "–" if value is None else f"{value / 1e3:.3f}"

    def cosine(value: float | None) -> str:
        return "–" if value is None else f"{value:.4f}"

    columns = ["model", "shape", "dtype", "threads", "peer", "ours ms", "peer ms", "ratio", "cosine", "peer's"]
    rows = [
        [r["model"], r["shape"], r["dtype"], str(r["threads"]), r["peer"] or "–", ms(r["ours_us"])]
        + [ms(r.get("peer_us")), "–" if r["ratio"] is None else f"{r['ratio']:.2f}"]
        + [cosine(r["cosine"]), cosine(r.get("peer_cosine"))]
        for r in told["rows"]
    ]
    print_table("", columns, rows, range(5, 10))
    columns = ["model", "shape", "dtype", "runtime", "file MB", "open ms", "first ms", "warm ms", "peak MB"]
    keys = ("model", "shape", "dtype", "way", "file_mb", "load_ms", "first_ms", "warm_ms", "peak_mb")
    print_table("", columns, [[str(row[key]) for key in keys] for row in told["footprints"]], range(4, 9))


def _draw(path: Path, found: FoundKernels) -> None:
    from ferrule.report.charts import has_matplotlib
    from ferrule.report.ratios import draw_ratios

    if not has_matplotlib():
        raise TargetError("FER-TGT-002", "matplotlib, which draws, is not installed.", "pip install 'ferrule[report]'")
    try:
        draw_ratios(path, found.rows)
    except OSError as error:
        raise OutputError(
            "FER-OUT-001", f"{path} cannot be written: {error.strerror or error}.", "Give another file by --plot."
        ) from error


def _print(found: FoundKernels) -> None:
    for peaks in found.peaks:
        read = ", ".join(f"{block >> 10} KB {rate:.0f}" for block, rate in peaks.read_gbps.items())
        rates = f"float32 {peaks.fma_gflops:.0f} GFLOP/s, int8 {peaks.dot_i8_gops:.0f} GOP/s"
        if peaks.dot_bf16_gflops is not None:
            rates += f", bfloat16 {peaks.dot_bf16_gflops:.0f} GFLOP/s"
        click.echo(f"{peaks.threads} threads, {peaks.isa}: {rates}, reads in GB/s: {read}")
    columns = ["op", "shape", "dtype", "threads", "peer", "ours µs", "peer µs", "ratio", "share"]
    print_table("", columns, [_row(row) for row in found.rows], (3, 5, 6, 7, 8))
    for peer, reason in found.absent.items():
        click.echo(f"absent: {peer} ({reason})")


def _row(row: Mapping[str, Any]) -> Sequence[str]:
    peer = ["–", "–", "–"] if row["peer"] is None else [row["peer"], f"{row['peer_us']:.1f}", f"{row['ratio']:.2f}"]
    name, time, ratio = peer
    case = [row["op"], row["shape"], row["dtype"], str(row["threads"])]
    return [*case, name, f"{row['ours_us']:.1f}", time, ratio, f"{100 * row['roofline_share']:.0f} %"]
