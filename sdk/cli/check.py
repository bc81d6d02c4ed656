"""`ferrule check`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ferrule.cli.output import EXIT_NONE, json_option, print_json

__all__ = ["command"]


@click.command("check")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
def command(bundle: Path, as_json: bool) -> int:
    """Verify BUNDLE (folder or .zip): every hash, then the artefact itself on the proof inputs that it carries.

    \b
    ferrule check out/minilm-w8a8-pixel-9-litert.ferrule
    ferrule check app/model.zip --json

    Exit code: 0 when all is well, 1 otherwise.
    """
    from ferrule.bundle import check

    outcome = check(bundle)
    if as_json:
        parity = asdict(outcome.parity) if outcome.parity else None
        print_json({"ok": outcome.ok, "parity": parity, "problems": list(outcome.problems)})
    else:
        if outcome.parity:
            p = outcome.parity
            click.echo(f"{p.engine}: cosine {p.cosine:.6f} (mean {p.cosine_mean:.6f}), max |error| {p.max_abs:.3g}")
            click.echo(f"over {p.inputs} inputs: {p.source}")
        for problem in outcome.problems:
            click.echo(f"problem  {problem}")
        click.echo("ok" if outcome.ok else "not ok")
    return 0 if outcome.ok else EXIT_NONE
