"""`ferrule report`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="HTML file; default: FOLDER/report.html.")
@click.option("--json", "as_json", is_flag=True, help="Print the path and the number of bundles as JSON.")
def command(folder: Path, out: Path | None, as_json: bool) -> int:
    """Write one self-contained HTML page about the bundles in FOLDER, a folder that `ferrule build` wrote.

    \b
    ferrule report out
    """
    from ferrule.cli.output import print_json
    from ferrule.report import write_report

    path = write_report(folder, out or folder / "report.html")
    if as_json:
        print_json({"report": str(path), "bundles": len(list(folder.glob("*.ferrule")))})
    else:
        click.echo(f"report: {path}")
    return 0
