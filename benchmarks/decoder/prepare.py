"""The files that are measured: `python -m benchmarks.decoder.prepare FOLDER` answers questions."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.decoder.runners import PROGRAM
from benchmarks.decoder.texts import CAPACITY, write_texts
from ferrule.runtime.bench.process import serve

if TYPE_CHECKING:
    from ferrule.model import Model

DEVICE = "raspberry-pi-5"


class Preparer:
    """Texts, and a program for each recipe, unless they are there; the model is loaded once it is needed."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model: Model | None = None

    def texts(self, count: int) -> dict[str, Any]:
        """See `write_texts`."""
        write_texts(self.folder, count)
        return {}

    def convert(self, recipe: str) -> dict[str, Any]:
        """Bytes of the program's file. recipe: a name or a file, after whose stem the program's folder is called."""
        folder = self.folder / Path(recipe).stem
        if not folder.is_dir():
            partial = self.folder / f".{folder.name}"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            self._write(recipe, partial)
            partial.rename(folder)
        return {"bytes": sum(f.stat().st_size for f in folder.iterdir() if f.name != PROGRAM)}

    def _write(self, recipe: str, folder: Path) -> None:
        import ferrule
        from benchmarks.decoder.smollm2 import as_decoder, load_module
        from ferrule.converters import find_target
        from ferrule.device_profiles import load
        from ferrule.model import capture
        from ferrule.recipe import load_recipe

        steps = load_recipe(recipe)  # before the model, which takes longer
        self.model = self.model or as_decoder(load_module(), CAPACITY)
        graphs = capture(ferrule.compress(self.model, steps))
        program = find_target("native").lower()(graphs, load(DEVICE), folder, False)
        (folder / PROGRAM).write_text(json.dumps(program.to_json()))


if __name__ == "__main__":
    serve(lambda: Preparer(sys.argv[1]))
