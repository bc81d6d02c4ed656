"""`ferrule explore`."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from ferrule.errors import TargetError

__all__ = ["command", "plan"]

EXPLORER = "ai-edge-model-explorer"
# Suffix of an artefact: the module that adds it to Model Explorer (empty: it reads the file itself), and its package.
READERS = {".tflite": ("", ""), ".onnx": ("model_explorer_onnx", "model-explorer-onnx")}


@click.command("explore")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="Port to serve on.")
@click.option("--no-browser", is_flag=True, help="Serve only; open the address yourself.")
def command(bundle: Path, port: int, no_browser: bool) -> int:
    """Open the graph of BUNDLE in Google's Model Explorer, in a browser on this machine; Ctrl-C ends it.

    For bundles of litert and, with one package more, onnx. Model Explorer is not installed with Ferrule.

    \b
    ferrule explore out/net-w8a8-pixel-9-litert.ferrule
    ferrule explore out/net-fp-raspberry-pi-5-onnx.ferrule --port 9000 --no-browser
    """
    from ferrule.bundle import Bundle

    opened = Bundle.open(bundle)
    opened.verify()
    line = plan(opened.root / opened.main, port, no_browser)
    click.echo(f"serving {opened.main} on http://localhost:{port} (or the next free port), Ctrl-C ends it", err=True)
    return subprocess.run(line, check=False).returncode


def plan(artefact: Path, port: int, no_browser: bool) -> list[str]:
    """The command line that serves an artefact.

    Raises TargetError FER-TGT-003 where Model Explorer cannot read such a file, FER-TGT-004 where it, or what it needs
    for the file, is not installed.
    """
    if artefact.suffix not in READERS:
        raise TargetError(
            "FER-TGT-003",
            f"Model Explorer reads no {artefact.suffix} files; of Ferrule's artefacts it reads {', '.join(READERS)}.",
            "Build the model for litert or onnx as well, or see the ops in `ferrule report`.",
        )
    module, package = READERS[artefact.suffix]
    modules = {"model_explorer": EXPLORER, **({module: package} if module else {})}
    missing = [name for name, wanted in modules.items() if find_spec(name) is None]
    if missing:
        raise TargetError(
            "FER-TGT-004",
            f"Showing a {artefact.suffix} file needs what is not installed: "
            f"{', '.join(modules[name] for name in missing)}.",
            f"Run: {sys.executable} -m pip install {' '.join(modules.values())}",
        )
    line = [sys.executable, "-m", "model_explorer", str(artefact), "--port", str(port)]
    line += ["--extensions", module] if module else []
    return [*line, "--no_open_in_browser"] if no_browser else line
