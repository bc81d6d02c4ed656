"""`ferrule init`."""

from __future__ import annotations

from pathlib import Path

import click

from ferrule.errors import OutputError, ProjectError

__all__ = ["TEMPLATE", "command"]

TEMPLATE = """\
# A Ferrule project: `ferrule build` in this folder builds every model for every device under every recipe.
# All keys: docs/project.md. Paths are relative to this file.

models:
  # Each model's bundles get a folder of this name below `out`.
  minilm: sample:minilm
  # mine:
  #   source: net.py:make          # or hf:DIRECTORY, timm:NAME[@FILE], FILE.pt2
  #   calibration: samples.npz     # arrays by input name; sentences in a .txt for text models
  #   recipes: [w8a8]              # instead of the list below; `devices` likewise

# DEVICE or DEVICE:TARGET; `ferrule devices` lists both.
devices:
  - pixel-9:litert
  - raspberry-pi-5:onnx

# Presets, techniques joined by '-', .json files, or recipes written here; `ferrule techniques` lists them.
recipes:
  - w8a8
  # - {name: careful, steps: [{technique: w8a8, options: {skip: ["*.pooler.*"]}}], min_cosine: 0.99}

out: build
# expand: true   # decode weights that a target cannot hold, instead of refusing
# kernels: true  # have Ferrule's kernels read them inside the target's runtime, where it can
# zip: true      # each bundle as a .zip too
"""


@click.command("init")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path),
    default=Path("ferrule.yaml"),
    show_default=True,
    help="Where to write it.",
)
def command(path: Path) -> int:
    """Write a commented project file to start from; a file that is there already stays as it is.

    \b
    ferrule init
    ferrule build
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise ProjectError(
            "FER-PRJ-007", f"{path} is there already and was left as it is.", "Name another file by -f."
        ) from None
    except OSError as error:
        found = f"Project file {path} cannot be written: {error.strerror or error}."
        raise OutputError("FER-OUT-001", found, "Name another file by -f.") from error
    click.echo(f"wrote {path}; next: ferrule build{'' if path == Path('ferrule.yaml') else f' -f {path}'}")
    return 0
