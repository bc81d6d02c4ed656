"""`ferrule check`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ferrule.cli.output import EXIT_NONE, json_option, print_json, print_table
from ferrule.errors import UsageError

if TYPE_CHECKING:
    from ferrule.converters.locate import Examination
    from ferrule.converters.locate_values import Compared, Statistics

__all__ = ["command"]

WORST = 12  # nodes listed when nothing diverges


@click.command("check")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option(
    "--locate", is_flag=True, help="Compare values between the ops with the model; name the first that parts."
)
@click.option("--model", help="With --locate: the model's spec, where the manifest's is not found here.")
@click.option("--input", "index", default=0, show_default=True, help="With --locate: which proof input.")
@click.option("--calibrate", "calibration", help="With --locate: the build's calibration file.")
@click.option("--device", help="With --locate and no BUNDLE: build for DEVICE[:TARGET] first, as after a failed build.")
@click.option("--recipe", default="fp", show_default=True, help="With --device: the recipe.")
@json_option
def command(
    bundle: Path | None,
    locate: bool,
    model: str | None,
    index: int,
    calibration: str | None,
    device: str | None,
    recipe: str,
    as_json: bool,
) -> int:
    """Verify BUNDLE (folder or .zip): every hash, then the artefact itself on the proof inputs that it carries.

    \b
    ferrule check out/minilm-w8a8-pixel-9-litert.ferrule
    ferrule check app/model.zip --json
    ferrule check out/net-fp-iphone-15-pro-coreml.ferrule --locate --model net.py:make
    ferrule check --locate --model net.py:make --device iphone-15-pro:coreml

    Exit code: 0 when all is well, 1 otherwise.
    """
    if locate:
        return _locate(bundle, model, index, calibration, device, recipe, as_json)
    if bundle is None:
        raise UsageError("FER-USE-004", "No bundle was given.", "ferrule check BUNDLE [--locate].")
    from ferrule.bundle import check

    outcome = check(bundle)
    hint = "" if outcome.ok or outcome.parity is None else "ferrule check --locate names the first op that diverges."
    if as_json:
        parity = asdict(outcome.parity) if outcome.parity else None
        print_json({"ok": outcome.ok, "parity": parity, "problems": list(outcome.problems)})
    else:
        if outcome.parity:
            p = outcome.parity
            click.echo(f"{p.engine}: cosine {p.cosine:.6f} (mean {p.cosine_mean:.6f}), max |error| {p.max_abs:.3g}")
            click.echo(f"over {p.inputs} inputs: {p.source}")
            if p.steps is not None:
                click.echo(f"state carried over {p.steps} steps; cosine to the model without it {p.control:.6f}")
        for problem in outcome.problems:
            click.echo(f"problem  {problem}")
        click.echo("ok" if outcome.ok else "not ok")
        if hint:
            click.echo(f"hint     {hint}")
    return 0 if outcome.ok else EXIT_NONE


def _locate(
    bundle: Path | None,
    model: str | None,
    index: int,
    calibration: str | None,
    device: str | None,
    recipe: str,
    as_json: bool,
) -> int:
    from ferrule.converters.locate import examine, examine_destination

    if bundle is None and (model is None or device is None):
        raise UsageError(
            "FER-USE-004",
            "--locate needs a bundle, or a model and a device to build for.",
            "ferrule check BUNDLE --locate, or ferrule check --locate --model SPEC --device DEVICE:TARGET.",
        )
    with _hushed():
        if bundle is not None:
            found = examine(bundle, model, index=index, calibration=calibration)
        else:
            assert model is not None and device is not None
            found = examine_destination(model, device, recipe, index=index, calibration=calibration)
    if as_json:
        print_json(_to_json(found))
    else:
        _print(found)
    return 0 if found.divergence is None else EXIT_NONE


@contextmanager
def _hushed() -> Iterator[None]:
    """Toolkits write to the terminal below Python: keep that away from what the command prints."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _print(found: Examination) -> None:
    for note in found.notes:
        click.echo(f"note     {note}")
    hidden = f"; {len(found.hidden)} others are not shown by the artefact" if found.hidden else ""
    if found.divergence is None:
        worst = sorted(found.rows, key=lambda row: -row.error / row.allowed)[:WORST]
        columns = ("Node", "Op", "Source", "Error", "Rounding explains", "Cosine")
        rows = [[r.node, r.op, _place(r), f"{r.error:.1e}", f"{r.allowed:.1e}", f"{r.cosine:.6f}"] for r in worst]
        print_table(f"Nodes nearest to diverging on {found.target}", columns, rows, right=(3, 4, 5))
        click.echo(f"no op diverges: {len(found.rows)} nodes agree with the model{hidden}")
        return
    d = found.divergence
    row = d.found
    click.echo(f"first divergence on {found.target}: {row.node} ({row.op}) at {_place(row)}")
    if row.source and row.layer:
        click.echo(f"  layer     {row.layer}")
    click.echo(f"  model     {_range(row.eager)}")
    click.echo(f"  artefact  {_range(row.artefact)}")
    if row.held:
        click.echo(f"  held      {row.held} of {row.eager.elements} numbers are beyond float16, and held at its limit")
    click.echo(
        f"  error     {row.error:.3g} relative (rounding explains {row.allowed:.2g}), cosine {row.cosine:.6f}, "
        f"max |difference| {row.max_abs:.4g}"
    )
    if d.after:
        click.echo(f"  agrees    {', '.join(d.after)}")
    if d.between:
        click.echo(f"  between   {', '.join(d.between)}: merged away in the artefact, and may be at fault as well")
    if row.how != "same shape":
        click.echo(f"  compared  {row.how}")
    if d.guess:
        click.echo(f"  cause     {d.guess}")
    click.echo(f"{len(found.rows)} nodes were compared{hidden}")


def _place(row: Compared) -> str:
    return row.source or row.layer or "the model itself"


def _range(s: Statistics) -> str:
    odd = [f"{count} {name}" for count, name in ((s.nans, "NaN"), (s.infinities, "infinite")) if count]
    finite = f"{s.low:.5g} to {s.high:.5g}" if s.low <= s.high else "nothing finite"
    return finite + (f", {' and '.join(odd)} of {s.elements}" if odd else "")


def _to_json(found: Examination) -> dict[str, Any]:
    d = found.divergence
    first = None if d is None else {**_row(d.found), "after": d.after, "between": d.between, "guess": d.guess}
    return {
        "ok": d is None,
        "target": found.target,
        "divergence": first,
        "compared": [_row(row) for row in found.rows],
        "hidden": found.hidden,
        "notes": found.notes,
    }


def _row(row: Compared) -> dict[str, Any]:
    """NaN and infinities, which JSON lacks, as text."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return str(value) if isinstance(value, float) and not abs(value) < float("inf") else value

    made: dict[str, Any] = plain({**asdict(row), "diverges": row.diverges})
    return made
