"""The package as users get it: a cheap import, and archives that hold one import name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "sdk": "ferrule",
    "converters": "ferrule/converters",
    "runtime": "ferrule/runtime",
    "device_profiles": "ferrule/device_profiles",
}
HEAVY = ["torch", "transformers", "onnx", "onnxruntime", "coremltools", "executorch", "jax", "litert_torch"]
IMPORT_BUDGET_S = 0.3
NOT_COPIED = [
    ".git",
    ".venv*",
    ".links",
    ".*_cache",
    "build",
    "dist",
    "out",
    "*.egg-info",
    "__pycache__",
    "*.so",
]

TIMED_IMPORT = """
import json, sys, time
start = time.perf_counter()
import ferrule
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules)}))
"""


def import_once() -> tuple[float, set[str]]:
    """Seconds of `import ferrule` in a fresh interpreter, and the modules loaded after it."""
    done = subprocess.run([sys.executable, "-c", TIMED_IMPORT], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found["seconds"], set(found["modules"])


def test_import_is_quick_and_loads_no_toolkit() -> None:
    seconds, modules = import_once()
    assert not modules.intersection(HEAVY)
    # The best of several runs: a busy machine makes single ones late.
    best = min([seconds, *(import_once()[0] for _ in range(4))])
    assert best < IMPORT_BUDGET_S


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """Names in the sdist, and in the wheel that is built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    # Built from a copy: setuptools writes into the tree that it packs.
    tree = shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(*NOT_COPIED))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = folder.glob("ferrule-*.tar.gz")
    (wheel,) = folder.glob("ferrule-*.whl")
    with tarfile.open(sdist) as tar, zipfile.ZipFile(wheel) as archive:
        return {name.partition("/")[2] for name in tar.getnames()}, set(archive.namelist())


def shipped_files() -> set[str]:
    """Names that a wheel must hold: every module and data file of the four folders."""
    suffixes = {".py", ".pyi", ".json", ".txt", ".html", ".css", ".js"}
    return {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes or path.name == "py.typed"
    }


@pytest.mark.slow
def test_wheel_holds_every_file_under_one_name(archives: tuple[set[str], set[str]]) -> None:
    _, wheel = archives
    assert shipped_files() - wheel == set()
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == {"ferrule"}


@pytest.mark.slow
def test_wheel_built_from_sdist_holds_the_extension(archives: tuple[set[str], set[str]]) -> None:
    _, wheel = archives
    assert any(name.startswith("ferrule/runtime/_C.") and name.endswith((".so", ".pyd")) for name in wheel)


@pytest.mark.slow
def test_sdist_holds_what_a_build_needs(archives: tuple[set[str], set[str]]) -> None:
    sdist, _ = archives
    native = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    assert native | {"CMakeLists.txt", "pyproject.toml", "setup.py", "constraints.txt", "LICENSE"} <= sdist
    assert not [name for name in sdist if name.endswith((".so", ".pyc"))]
