"""`ferrule build`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ferrule.cli.output import (
    EXIT_NONE,
    EXIT_SOME,
    EXIT_USAGE,
    console,
    json_option,
    megabytes,
    print_json,
    print_table,
    say_error,
)
from ferrule.errors import FerruleError

if TYPE_CHECKING:
    from ferrule.jobs import Progress
    from ferrule.result import Result

__all__ = ["command", "print_results", "show_progress"]


@click.command("build")
@click.argument("model")
@click.option("--device", "devices", multiple=True, required=True, metavar="D[:TARGET]", help="Repeat for more.")
@click.option("--recipe", "recipes", multiple=True, default=("fp",), show_default=True, help="Preset or .json file.")
@click.option("--calibrate", type=click.Path(path_type=Path), help="Calibration data: .txt, .npz or .safetensors.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, help="Folder for the bundles.")
@click.option("--expand", is_flag=True, help="Decode weights that a target cannot hold natively (reported).")
@click.option("--zip", "archive", is_flag=True, help="Write each bundle as a .zip as well.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars.")
@json_option
def command(
    model: str,
    devices: tuple[str, ...],
    recipes: tuple[str, ...],
    calibrate: Path | None,
    out: Path,
    expand: bool,
    archive: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Compress MODEL and build one bundle for each device and recipe.

    MODEL is sample:minilm, hf:DIRECTORY, timm:NAME[@FILE], FILE.py:FUNCTION or FILE.pt2.

    \b
    ferrule build sample:minilm --device pixel-9 --recipe w8a8 -o out
    ferrule build hf:./my-bert --device iphone-15-pro:coreml --device galaxy-s24:executorch --recipe w4g32 -o out
    ferrule build net.py:make --device raspberry-pi-5:onnx --recipe w8 --json -o out

    Exit code: 0 all targets were built, 3 some, 1 none, 2 usage.
    """
    from ferrule.cli.main import USAGE_FAMILIES
    from ferrule.flow import deploy

    try:
        with show_progress(quiet or as_json) as progress:
            results = deploy(
                model,
                devices=devices,
                recipe=list(recipes),
                calibration=calibrate,
                out=out,
                expand=expand,
                archive=archive,
                progress=progress,
            )
    except FerruleError as error:
        if as_json:
            print_json(_failed_rows(devices, recipes, error))
        say_error(error)
        return EXIT_USAGE if error.code.startswith(USAGE_FAMILIES) else EXIT_NONE
    if as_json:
        print_json([r.to_json() for r in results])
    else:
        print_results(results)
    built = sum(r.status == "ok" for r in results)
    return 0 if built == len(results) else EXIT_SOME if built else EXIT_NONE


def print_results(results: Sequence[Result]) -> None:
    """The table of results, then what the user must know: notes once each, reasons for what was not built."""
    rows = [
        [
            r.device,
            r.target,
            r.recipe,
            r.status,
            megabytes(r.size_bytes),
            f"{r.parity.cosine:.4f}" if r.parity else "–",
            f"{r.parity.max_abs:.2g}" if r.parity else "–",
            f"{r.seconds:.0f}",
        ]
        for r in results
    ]
    print_table("", ["device", "target", "recipe", "status", "MB", "cosine", "max |err|", "s"], rows, (4, 5, 6, 7))
    screen = console()
    notes: dict[str, list[str]] = {}
    for r in results:
        for note in r.notes:
            notes.setdefault(note, []).append(f"{r.device}:{r.target} {r.recipe}")
    for note, where in notes.items():
        screen.print(f"note  {note} ({', '.join(where)})", markup=False)
    for r in results:
        if r.status != "ok":
            screen.print(f"{r.status}  {r.device}:{r.target} {r.recipe}  {r.code}: {r.reason}", markup=False)
            if r.hint:
                screen.print(f"      {r.hint}", markup=False)
            if r.log:
                screen.print(f"      log: {r.log}", markup=False)


@contextmanager
def show_progress(quiet: bool) -> Iterator[Progress | None]:
    """Bars on standard error, one for each job; None when quiet."""
    if quiet:
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    from ferrule.jobs import Event

    tasks: dict[tuple[str, str, str], TaskID] = {}
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[phase]}"),
        TimeElapsedColumn(),
        console=console(stderr=True),
    )
    share = {"waiting": 0.0, "loading": 5.0, "lowering": 15.0, "proving": 80.0, "packing": 97.0}

    def on_event(event: Event) -> None:
        key = (event.device, event.target, event.recipe)
        bars.start()  # only now: a build that is refused at once leaves no empty line
        if key not in tasks:
            label = f"{event.device}:{event.target} {event.recipe}"
            tasks[key] = bars.add_task(label, total=100, phase=event.phase, start=False)
        if event.phase != "waiting":
            bars.start_task(tasks[key])
        within = 17.0 * event.done / event.total if event.phase == "proving" and event.total else 0.0
        bars.update(tasks[key], completed=share.get(event.phase, 100.0) + within, phase=event.phase)
        if event.phase in ("done", "failed", "refused"):
            bars.stop_task(tasks[key])

    try:
        yield on_event
    finally:
        if tasks:
            bars.stop()


def _failed_rows(devices: Sequence[str], recipes: Sequence[str], error: FerruleError) -> list[dict[str, object]]:
    """Rows for a build that did not begin, so that a program reads one form whatever happens."""
    from ferrule.result import Result

    rows = []
    for recipe in recipes:
        for text in devices:
            device, _, target = text.partition(":")
            row = Result(
                device,
                target,
                recipe,
                "failed",
                code=error.code,
                reason=error.message,
                hint=error.hint or None,
            )
            rows.append(row.to_json())
    return rows
