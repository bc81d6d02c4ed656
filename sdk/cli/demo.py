"""`ferrule demo`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ferrule.cli.output import EXIT_NONE, EXIT_SOME, json_option, megabytes, print_json, print_table, tell

__all__ = ["command"]


@click.command("demo")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("out/demo"), show_default=True, help="Build folder."
)
@json_option
def command(out: Path, as_json: bool) -> int:
    """Build MiniLM for five devices in three recipes, measure accuracy and latency, write a report.

    Real weights, real sentences, 1000 labelled news articles; everything runs here, nothing is fetched.

    \b
    ferrule demo
    ferrule demo -o out/demo --json
    """
    from ferrule.cli.build import show_progress
    from ferrule.demo import run_demo

    start = time.perf_counter()
    with show_progress(as_json) as progress:
        rows, reference = run_demo(out, tell, progress)
    seconds = time.perf_counter() - start
    if as_json:
        print_json(
            {
                "rows": [
                    {
                        **row.result.to_json(),
                        "linear_share": row.linear_share,
                        "accuracy": row.accuracy,
                        "latency_ms": row.latency_ms,
                    }
                    for row in rows
                ],
                "reference_accuracy": reference,
                "report": str(out / "report.html"),
                "seconds": round(seconds, 1),
            }
        )
    else:
        columns = ["device", "target", "recipe", "status", "MB", "linear", "cosine", "R8 %", "points", "host ms"]
        table = [
            [
                row.result.device,
                row.result.target,
                row.result.recipe,
                row.result.status if row.result.status == "ok" else f"{row.result.status} {row.result.code}",
                megabytes(row.result.size_bytes),
                "–" if row.linear_share is None else f"{100 * row.linear_share:.1f} %",
                f"{row.result.parity.cosine:.4f}" if row.result.parity else "–",
                "–" if row.accuracy is None else f"{100 * row.accuracy:.1f}",
                "–" if row.accuracy is None else f"{100 * (row.accuracy - reference):+.1f}",
                "–" if row.latency_ms is None else f"{row.latency_ms:.1f}",
            ]
            for row in rows
        ]
        print_table("", columns, table, range(4, 10))
        click.echo(f"linear: bytes of the linear layers in the file, against float32 ({100 * reference:.1f} % on R8).")
        click.echo("cosine: lowest of 50 sentences, against the eager float32 model.")
        click.echo("host ms: p50 at 64 tokens, one thread, this machine, not the device.")
        click.echo(f"{seconds:.0f} s; report: {out / 'report.html'}")
    built = sum(row.result.status == "ok" for row in rows)
    return 0 if built == len(rows) else EXIT_SOME if built else EXIT_NONE
