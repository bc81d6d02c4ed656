"""`ferrule build`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ferrule.cache import off
from ferrule.cli.completion import complete_destination, complete_model, complete_recipe
from ferrule.cli.output import (
    EXIT_NONE,
    EXIT_SOME,
    EXIT_USAGE,
    console,
    is_quiet,
    is_verbose,
    json_option,
    megabytes,
    print_json,
    print_table,
    say_error,
    status_text,
)
from ferrule.errors import FerruleError
from ferrule.logs import logger

if TYPE_CHECKING:
    from rich.text import Text

    from ferrule.jobs import Event, Progress
    from ferrule.result import Result

__all__ = ["command", "print_results", "show_progress"]


@click.command("build")
@click.argument("model", required=False, shell_complete=complete_model)
@click.option(
    "-d",
    "--device",
    "devices",
    multiple=True,
    metavar="D[:TARGET]",
    help="Repeat for more.",
    shell_complete=complete_destination,
)
@click.option(
    "-r",
    "--recipe",
    "recipes",
    multiple=True,
    help="Preset, techniques joined by '-', or .json file; repeat for more.  [default: fp]",
    shell_complete=complete_recipe,
)
@click.option("--calibrate", type=click.Path(path_type=Path), help="Calibration data: .txt, .npz or .safetensors.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Folder for the bundles.")
@click.option("-f", "--file", "project", type=click.Path(path_type=Path), help="Project file to build instead.")
@click.option("--expand", is_flag=True, help="Decode weights that a target cannot hold natively (reported).")
@click.option("--kernels", is_flag=True, help="Read them by Ferrule's kernels in the target's runtime, where it can.")
@click.option("--no-cache", is_flag=True, help="Make everything anew, and keep nothing.")
@click.option("--zip", "archive", is_flag=True, help="Write each bundle as a .zip as well.")
@json_option
def command(
    model: str | None,
    devices: tuple[str, ...],
    recipes: tuple[str, ...],
    calibrate: Path | None,
    out: Path | None,
    project: Path | None,
    expand: bool,
    kernels: bool,
    no_cache: bool,
    archive: bool,
    as_json: bool,
) -> int:
    """Compress MODEL and build one bundle for each device and recipe; without MODEL, build the project file here.

    MODEL is sample:minilm, hf:DIRECTORY, timm:NAME[@FILE], FILE.py:FUNCTION or FILE.pt2.

    \b
    ferrule build sample:minilm --device pixel-9 --recipe w8a8 -o out
    ferrule build hf:./my-bert --device iphone-15-pro:coreml --device galaxy-s24:executorch --recipe w4g32 -o out
    ferrule build net.py:make --device raspberry-pi-5:onnx --recipe w8 --json -o out
    ferrule build                       # models, devices and recipes of ./ferrule.yaml (ferrule init)
    ferrule build -f phones.yaml -o out

    Exit code: 0 all targets were built, 3 some, 1 none, 2 usage.
    """
    if model is None:
        given = {"--device": devices, "--recipe": recipes, "--calibrate": calibrate}
        with off() if no_cache else nullcontext():
            names = [name for name, value in given.items() if value]
            return _build_project(project, names, out, (expand, kernels), archive, as_json)
    if project is not None:
        raise click.UsageError(f"Both a MODEL ({model}) and a project file ({project}) were given; one is needed.")
    if not devices:
        raise click.UsageError("Missing option '-d' / '--device': at least one; `ferrule devices` lists them.")
    if out is None:
        raise click.UsageError("Missing option '-o' / '--out': the folder for the bundles.")
    from ferrule.cli.main import USAGE_FAMILIES
    from ferrule.flow import deploy

    recipes = recipes or ("fp",)
    try:
        with show_progress(as_json) as progress:
            results = deploy(
                model,
                devices=devices,
                recipe=list(recipes),
                calibration=calibrate,
                out=out,
                expand=expand,
                kernels=kernels,
                archive=archive,
                progress=progress,
                cache=not no_cache,
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
    return _exit_code(results)


def _build_project(
    path: Path | None,
    misplaced: Sequence[str],
    out: Path | None,
    lacking: tuple[bool, bool],
    archive: bool,
    as_json: bool,
) -> int:
    from dataclasses import replace

    from ferrule.project import build_project, find_project, load_project

    if misplaced:
        raise click.UsageError(f"{', '.join(misplaced)} go with a MODEL; a project file names its own.")
    project = load_project(path or find_project(Path()))
    project = replace(
        project,
        out=out or project.out,
        expand=lacking[0] or project.expand,
        kernels=lacking[1] or project.kernels,
        archive=archive or project.archive,
    )
    with _bars(as_json) as update:

        def on_event(model: str, event: Event) -> None:
            assert update is not None
            update(f"{model} → ", event)

        built = build_project(project, on_event if update else None)
    if as_json:
        print_json([{**r.to_json(), "model": name} for name, results in built for r in results])
    else:
        print_results([r for _, results in built for r in results], [n for n, results in built for _ in results])
        click.echo(f"bundles: {project.out}")
    return _exit_code([r for _, results in built for r in results])


def _exit_code(results: Sequence[Result]) -> int:
    built = sum(r.status == "ok" for r in results)
    return 0 if built == len(results) else EXIT_SOME if built else EXIT_NONE


def print_results(results: Sequence[Result], models: Sequence[str] = ()) -> None:
    """The table of results, then what the user must know: notes once each, reasons for what was not built.

    models: a name for each result, shown where there are any.
    """
    names = list(models) or [""] * len(results)
    where = [f"{n} {r.device}:{r.target} {r.recipe}".lstrip() for n, r in zip(names, results, strict=True)]
    rows: list[list[str | Text]] = [
        [
            *([name] if models else []),
            r.device,
            r.target,
            r.recipe,
            status_text(r.status),
            megabytes(r.size_bytes),
            f"{r.parity.cosine:.4f}" if r.parity else "–",
            f"{r.parity.max_abs:.2g}" if r.parity else "–",
            "cached" if r.cached else f"{r.seconds:.0f}",
        ]
        for name, r in zip(names, results, strict=True)
    ]
    columns = ["device", "target", "recipe", "status", "MB", "cosine", "max |err|", "s"]
    left = 4 + bool(models)
    print_table("", ["model", *columns] if models else columns, rows, range(left, left + 4))
    screen = partial(console().print, soft_wrap=True)
    notes: dict[str, list[str]] = {}
    for place, r in zip(where, results, strict=True):
        for note in r.notes:
            notes.setdefault(note, []).append(place)
    for note, places in notes.items():
        screen(f"note  {note} ({', '.join(places)})")
    for place, r in zip(where, results, strict=True):
        told = f"{place}: {r.status} {r.code or ''} {r.reason or ''}".rstrip()
        logger.info("result %s", told, extra={"printed": True})
        if r.status != "ok":
            screen(status_text(r.status), f" {place}  {r.code}: {r.reason}")
            if r.hint:
                screen(f"      {r.hint}")
            if r.log:
                screen(f"      log: {r.log}")


@contextmanager
def show_progress(hidden: bool) -> Iterator[Progress | None]:
    """Bars on standard error, one for each job; None when hidden, and where --quiet or --verbose take their place."""
    with _bars(hidden) as update:
        yield None if update is None else lambda event: update("", event)


@contextmanager
def _bars(hidden: bool) -> Iterator[Callable[[str, Event], None] | None]:
    """The bars' update, called with what stands before the job's name."""
    if hidden or is_quiet() or is_verbose():
        yield None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    tasks: dict[str, TaskID] = {}
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[phase]}"),
        TimeElapsedColumn(),
        console=console(stderr=True),
    )
    share = {"waiting": 0.0, "loading": 5.0, "lowering": 15.0, "proving": 80.0, "packing": 97.0}

    def update(head: str, event: Event) -> None:
        label = f"{head}{event.device}:{event.target} {event.recipe}"
        bars.start()  # only now: a build that is refused at once leaves no empty line
        if label not in tasks:
            tasks[label] = bars.add_task(label, total=100, phase=event.phase, start=False)
        if event.phase != "waiting":
            bars.start_task(tasks[label])
        within = 17.0 * event.done / event.total if event.phase == "proving" and event.total else 0.0
        bars.update(tasks[label], completed=share.get(event.phase, 100.0) + within, phase=event.phase)
        if event.phase in ("done", "failed", "refused"):
            bars.stop_task(tasks[label])

    try:
        yield update
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
