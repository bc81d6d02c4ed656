"""Documents stay true: generated parts are what the code gives, links and anchors lead somewhere, commands exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import ferrule
from ferrule.catalog import TECHNIQUES
from ferrule.cli.main import COMMANDS, cli
from ferrule.converters import TARGETS
from ferrule.project import KEYS, MODEL_KEYS, load_project
from ferrule.sources import FORMS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def load_tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, made as GitHub makes them."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.+?) *$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-")
        found[plain] = found.get(plain, -1) + 1
    return {name if n == 0 else f"{name}-{n}" for name, last in found.items() for n in range(last + 1)}


def fenced_calls(text: str) -> Iterator[list[str]]:
    """Words of each `ferrule …` line in the fences without a language or of a shell."""
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            for part in line.removeprefix("$ ").split(" && "):
                if part.startswith("ferrule "):
                    yield shlex.split(part, comments=True)[1:]


def test_tables_of_the_readme_are_generated() -> None:
    text = (ROOT / "README.md").read_text()
    assert load_tool("tables").render(text) == text, "run: python tools/tables.py"


def test_the_table_of_kernels_is_generated() -> None:
    text = (DOCS / "kernels.md").read_text()
    assert load_tool("tables").render_kernels(text) == text, "run: python tools/tables.py"


def test_the_tables_of_models_are_generated() -> None:
    text = (DOCS / "models.md").read_text()
    assert load_tool("tables").render_models(text) == text, "run: python tools/tables.py"
    text = (ROOT / "docs" / "custom_ops.md").read_text()
    assert load_tool("tables").render_custom_ops(text) == text, "run: python tools/tables.py"


def test_pages_of_commands_and_the_index_are_generated() -> None:
    tool = load_tool("command_pages")
    index = (DOCS / "README.md").read_text()
    assert tool.render_index(index) == index, "run: python tools/command_pages.py"
    for name in COMMANDS:
        text = (DOCS / "commands" / f"{name}.md").read_text()
        assert tool.render(name, text) == text, "run: python tools/command_pages.py"


@pytest.mark.parametrize(
    ("folder", "names"), [("commands", COMMANDS), ("targets", TARGETS), ("techniques", TECHNIQUES)]
)
def test_each_has_its_page_and_each_page_its_own(folder: str, names: Any) -> None:
    assert {page.stem for page in (DOCS / folder).glob("*.md")} == set(names)
    for name in names:
        text = (DOCS / folder / f"{name}.md").read_text()
        assert text.startswith("# ") and name in text.partition("\n")[0] and len(text) > 200


def test_every_option_of_a_command_says_what_it_does() -> None:
    tool = load_tool("command_pages")
    for name in COMMANDS:
        for words, command in tool.parts(name):
            silent = [p.opts[-1] for p in command.params if isinstance(p, click.Option) and not p.help]
            assert not silent, words


def test_readme_shows_the_demo_as_printed() -> None:
    block = re.search(r"<!-- demo -->\n(.*?)<!-- /demo -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    for target in ("litert", "executorch", "coreml", "executorch-coreml", "native", "onnx"):
        assert re.search(rf"{target} +w8a8 +ok", block[1]), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there.read_text()), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_in_fences_exist(page: Path) -> None:
    for words in fenced_calls(page.read_text()):
        if words[0].startswith("-") or "|" in words:
            assert words[0].startswith("-") or words[0] in COMMANDS, words
            continue
        context = click.Context(cli)
        assert words[0] in COMMANDS, words
        command = cli.get_command(context, words[0])  # type: ignore[attr-defined]
        if isinstance(command, click.Group) and len(words) > 1:
            assert words[1] in command.commands, words
            command = command.commands[words[1]]
        known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
        used = {word.partition("=")[0] for word in words[1:] if word.startswith("-") and word != "-"}
        assert used <= known, words


def test_the_index_leads_to_every_page() -> None:
    text = (DOCS / "README.md").read_text()
    missing = [
        str(page.relative_to(DOCS))
        for page in DOCS.rglob("*.md")
        if page.name != "README.md" and f"({page.relative_to(DOCS).as_posix()})" not in text
    ]
    assert not missing


def test_forms_of_models_are_all_told() -> None:
    text = (DOCS / "commands" / "build.md").read_text()
    assert all(f"`{form}`" in text for form in FORMS)


def test_keys_of_the_project_file_are_all_told(tmp_path: Path) -> None:
    text = (DOCS / "project.md").read_text()
    assert all(f"`{key}`" in text for key in (*KEYS, *MODEL_KEYS))
    block = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.json").write_text('{"name": "mine"}')
    (tmp_path / "faces.npz").write_bytes(b"")
    (tmp_path / "ferrule.yaml").write_text(block[1])
    assert [plan.name for plan in load_project(tmp_path / "ferrule.yaml").plans] == ["minilm", "faces"]


def test_names_of_the_python_api_are_all_told() -> None:
    text = (DOCS / "python.md").read_text()
    missing = [name for name in ferrule.__all__ if not name.startswith("__") and not re.search(rf"`{name}[`(.]", text)]
    assert not missing


def test_a_wrong_option_in_a_fence_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for line in ("ferrule bild x", "ferrule build x --devcie pixel-9", "ferrule cache shrink"):
        page.write_text(f"```\n{line}\n```\n")
        with pytest.raises(AssertionError):
            test_commands_in_fences_exist(page)


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
