"""`ferrule measure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ferrule.cli.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from ferrule.runtime.profile import Profile

__all__ = ["command"]


@click.command("measure")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, 256), help="Threads of the engine.")
@click.option("--runs", default=50, show_default=True, type=click.IntRange(1), help="Timed calls, after warm-up.")
@click.option("--length", type=click.IntRange(1), help="Length of the dynamic axis (tokens); default: proof input.")
@click.option("--profile", "with_profile", is_flag=True, help="Times of the ops too, where the engine tells them.")
@json_option
def command(bundle: Path, threads: int, runs: int, length: int | None, with_profile: bool, as_json: bool) -> int:
    """Measure BUNDLE on this machine, in a process of its own: p50/p90/p99 latency, load time, peak memory.

    The figures are this machine's, not the device's that the bundle was built for.

    \b
    ferrule measure out/minilm-w8a8-raspberry-pi-5-onnx.ferrule --threads 2 --length 64
    ferrule measure out/minilm-w8a8-raspberry-pi-5-native.ferrule --profile
    """
    from ferrule.runtime.bench import measure, profile

    found = measure(bundle, threads=threads, runs=runs, length=length)
    ops = profile(bundle, threads=threads, runs=runs, length=length) if with_profile else None
    if as_json:
        print_json({**found.to_json(), **({} if ops is None else {"profile": ops.to_json()})})
        return 0
    columns = ["engine", "threads", "length", "runs", "p50 ms", "p90 ms", "p99 ms", "load ms", "first ms", "peak MB"]
    latency = found.latency_ms
    row = [
        found.engine,
        str(found.threads),
        str(found.length or "–"),
        str(found.runs),
        *(f"{latency[p]:.2f}" for p in ("p50", "p90", "p99")),
        f"{found.load_ms:.0f}",
        f"{found.first_ms:.2f}",
        f"{found.peak_rss_mb:.0f}",
    ]
    print_table("", columns, [row], range(1, 10))
    if ops is not None:
        _print_profile(ops)
    return 0


def _print_profile(profile: Profile) -> None:
    """Kinds of ops, then the ten slowest with where they come from."""

    def cells(seconds: float) -> list[str]:
        return [f"{1e3 * seconds:.3f}", f"{100 * seconds / profile.seconds:.1f} %"]

    kinds = [[kind, str(count), *cells(seconds)] for kind, count, seconds in profile.by_kind()]
    print_table("", ["op", "count", "ms", "share"], kinds, (1, 2, 3))
    slowest = sorted(profile.ops, key=lambda op: -op.seconds)[:10]
    print_table("", ["slowest", "from", "ms", "share"], [[o.op, o.source, *cells(o.seconds)] for o in slowest], (2, 3))
    click.echo(
        f"{1e3 * profile.seconds:.2f} ms in all, {100 * profile.share:.1f} % of it in ops; the middle run of some."
    )
