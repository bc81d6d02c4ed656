"""The table of techniques agrees with the files, the pages of documentation, the tests, and the targets."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ferrule.catalog import TECHNIQUES, find_technique
from ferrule.converters import TARGETS
from ferrule.errors import RecipeError

ROOT = Path(__file__).resolve().parents[1]
NOT_TECHNIQUES = {
    "__init__",
    "attention",
    "layers",
    "families",
    "merge_op",
    "merging",
    "stack",
}  # what techniques are made of


def test_the_table_is_the_files() -> None:
    files = {
        f"ferrule.techniques.{path.parent.name}.{path.stem}"
        for path in (ROOT / "sdk" / "techniques").glob("*/*.py")
        if path.stem not in NOT_TECHNIQUES
    }
    assert {row.home.partition(":")[0] for row in TECHNIQUES.values()} == files


def test_the_table_is_the_pages() -> None:
    assert {path.stem for path in (ROOT / "docs" / "techniques").glob("*.md")} == set(TECHNIQUES)


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_page_tells_every_option_and_target(name: str) -> None:
    row = TECHNIQUES[name]
    page = (ROOT / "docs" / "techniques" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    for option in row.options_type().__dataclass_fields__:
        assert f"`{option}`" in page
    for target in row.targets:
        assert f"`{target}`" in page


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_row_is_tested(name: str) -> None:
    tests = (ROOT / "tests" / "test_techniques.py").read_text(encoding="utf-8")
    assert "ROWS = sorted(TECHNIQUES)" in tests and f'"{name}": {{' in tests


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_row_leads_to_its_file(name: str) -> None:
    row = TECHNIQUES[name]
    module, _, function = row.home.partition(":")
    assert row.name == name and module.split(".")[-1] == name.replace("-", "_")
    assert row.kind == module.split(".")[2]
    loaded = import_module(module)
    assert row.function() is getattr(loaded, function) and row.options_type() is loaded.Options
    assert sorted(loaded.__all__) == sorted(["Options", function])
    assert row.summary and not row.summary.endswith(".") and 0 < row.min_cosine <= 1
    assert not row.paper or re.fullmatch(r"\d+b?", row.paper)


def test_rows_name_real_targets_in_order() -> None:
    for row in TECHNIQUES.values():
        assert row.targets and set(row.targets) <= set(TARGETS)
        assert list(row.targets) == sorted(row.targets)
    assert list(TECHNIQUES) == sorted(TECHNIQUES)


def test_unknown_options_are_told_with_the_known_ones() -> None:
    with pytest.raises(
        RecipeError, match="has no options \\['rows'\\]; it has \\['layers', 'min_rows', 'skip'\\]"
    ) as caught:
        TECHNIQUES["emb8"].read_options({"rows": 3})
    assert caught.value.code == "FER-REC-003"


def test_numbers_in_names_are_options() -> None:
    assert find_technique("w8") == (TECHNIQUES["w8"], {})
    assert find_technique("lut4") == (TECHNIQUES["lut"], {"bits": 4})
    assert find_technique("lut") == (TECHNIQUES["lut"], {})
    assert [find_technique(name) for name in ("w9", "lut4x", "4", "")] == [None] * 4
    for row in TECHNIQUES.values():
        assert all(find_technique(name) is not None for name in row.names())


def test_the_table_loads_no_technique() -> None:
    code = (
        "import sys, ferrule.catalog, ferrule.recipe as r; r.load_recipe('w8a8-emb8');"
        "print('torch' in sys.modules, 'ferrule.techniques.quant.layers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
