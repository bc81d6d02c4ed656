"""Documents stay true: generated tables are what the code gives, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def load_tables() -> Any:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "tools" / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_the_readme_are_generated() -> None:
    text = (ROOT / "README.md").read_text()
    assert load_tables().render(text) == text, "run: python tools/tables.py"


def test_readme_shows_the_demo_as_printed() -> None:
    block = re.search(r"<!-- demo -->\n(.*?)<!-- /demo -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    for target in ("litert", "executorch", "coreml", "executorch-coreml", "onnx"):
        assert re.search(rf"{target} +w8a8 +ok", block[1]), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.slow
def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    (tmp_path / "example.py").write_text(block[1])
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pixel-9 ok" in done.stdout and "iphone-15-pro ok" in done.stdout and "(1, 384)" in done.stdout
