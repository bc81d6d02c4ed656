"""`ferrule sensitivity`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ferrule.cli.completion import complete_model, complete_recipe
from ferrule.cli.output import EXIT_NONE, console, is_quiet, json_option, print_json, print_table, say_error, tell
from ferrule.errors import OutputError

__all__ = ["command"]

SHOWN = 30


@click.command("sensitivity")
@click.argument("model", shell_complete=complete_model)
@click.option("-r", "--recipe", required=True, help="A recipe with a quantizer.", shell_complete=complete_recipe)
@click.option("--calibrate", type=click.Path(path_type=Path), help="Calibration data: .txt, .npz or .safetensors.")
@click.option("--samples", default=16, show_default=True, type=click.IntRange(1), help="Proof inputs to compare on.")
@click.option("-o", "--out", type=click.Path(path_type=Path), help="Build folder: keep the figures for its report.")
@json_option
def command(model: str, recipe: str, calibrate: Path | None, samples: int, out: Path | None, as_json: bool) -> int:
    """Show what each layer of MODEL costs when RECIPE compresses it alone, worst first.

    The loss is 1 - mean cosine of the outputs to those of the float model. A layer that stands out is worth leaving in
    float (`skip`) or giving more bits (`layers`) in a recipe file; the report charts them.

    \b
    ferrule sensitivity sample:minilm --recipe lut4
    ferrule sensitivity sample:minilm --recipe w4g32 -o out && ferrule report out
    """
    from ferrule.layer_loss import sensitivity

    with _bar() as progress:
        found = sensitivity(model, recipe, calibration=calibrate, samples=samples, progress=progress)
    if as_json:
        print_json(found.to_json(_command()))
    else:
        worst = max((layer.loss for layer in found.layers), default=0.0) or 1.0
        rows = [
            [
                layer.name or "(the model)",
                layer.kind,
                f"{layer.elements:,}",
                f"{layer.loss:.6f}",
                _block(layer.loss / worst),
            ]
            for layer in found.layers[:SHOWN]
        ]
        title = f"{found.model} under {found.recipe}: all layers together {found.all_layers:.6f} ({found.inputs})"
        print_table(title, ["layer", "kind", "weights", "loss alone", ""], rows, (2, 3))
        if len(found.layers) > SHOWN:
            click.echo(f"{len(found.layers) - SHOWN} more layers, each with a lesser loss; --json lists them all.")
    if out is not None:
        try:
            path = found.write(out, _command())
        except OSError as error:
            say_error(
                OutputError(
                    "FER-OUT-001", f"Folder {out} cannot be written: {error.strerror or error}.", "Give another by -o."
                )
            )
            return EXIT_NONE
        tell(f"wrote {path}")
    return 0


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None] | None]:
    """A bar over the layers on a terminal; nothing elsewhere."""
    screen = console(stderr=True)
    if is_quiet() or not screen.is_terminal:
        yield None
        return
    from rich.progress import Progress

    with Progress(console=screen, transient=True) as bar:
        task = bar.add_task("layers", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _command() -> str:
    return shlex.join(["ferrule", *sys.argv[1:]])


def _block(share: float) -> str:
    return "█" * max(0, round(24 * share))
