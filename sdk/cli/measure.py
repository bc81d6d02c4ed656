"""`ferrule measure`."""

from __future__ import annotations

from pathlib import Path

import click

from ferrule.cli.output import json_option, print_json, print_table

__all__ = ["command"]


@click.command("measure")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 256), help="Threads of the engine.")
@click.option("--runs", default=50, show_default=True, type=click.IntRange(1), help="Timed calls, after warm-up.")
@click.option("--length", type=click.IntRange(1), help="Length of the dynamic axis (tokens); default: proof input.")
@json_option
def command(bundle: Path, threads: int, runs: int, length: int | None, as_json: bool) -> int:
    """Measure BUNDLE on this machine, in a process of its own: p50/p90/p99 latency, load time, peak memory.

    The figures are this machine's, not the device's that the bundle was built for.

    \b
    ferrule measure out/minilm-w8a8-raspberry-pi-5-onnx.ferrule --threads 2 --length 64
    """
    from ferrule.runtime.bench import measure

    found = measure(bundle, threads=threads, runs=runs, length=length)
    if as_json:
        print_json(found.to_json())
        return 0
    columns = ["engine", "threads", "length", "runs", "p50 ms", "p90 ms", "p99 ms", "load ms", "peak MB"]
    latency = found.latency_ms
    row = [
        found.engine,
        str(found.threads),
        str(found.length or "–"),
        str(found.runs),
        *(f"{latency[p]:.2f}" for p in ("p50", "p90", "p99")),
        f"{found.load_ms:.0f}",
        f"{found.peak_rss_mb:.0f}",
    ]
    print_table("", columns, [row], range(1, 9))
    return 0
