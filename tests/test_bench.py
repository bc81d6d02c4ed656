"""`ferrule bench kernels`: its cases, its arithmetic, its chart and its command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ferrule.cli import main
from ferrule.report.ratios import draw_ratios
from ferrule.runtime.bench.kernels import list_cases
from ferrule.runtime.bench.kernels.case import OURS, PACKAGES, Work, package_of
from ferrule.runtime.bench.kernels.peaks import BLOCKS, Peaks

FIELDS = {"op", "shape", "dtype", "threads", "peer", "ours_us", "peer_us", "ratio", "roofline_share"}


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ferrule", "bench", "kernels", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capfd.readouterr()
    return int(caught.value.code or 0), out, err


def test_every_case_is_ours_and_has_a_peer() -> None:
    cases = list_cases()
    assert len({case.name for case in cases}) == len(cases) > 50
    for case in cases:
        assert OURS in case.ways and len(case.ways) > 1, case.name
        assert {package_of(way) for way in case.ways} <= {OURS, *PACKAGES}
        assert set(case.notes) <= set(case.ways)
        assert case.work.bytes > 0


def test_the_limit_is_the_slower_of_computing_and_reading() -> None:
    peaks = Peaks(2, "avx2", 100.0, 400.0, dict(zip(BLOCKS, (500.0, 200.0, 50.0, 40.0, 10.0), strict=True)))
    assert peaks.limit_us(Work(float_ops=1e8)) == pytest.approx(1000)
    assert peaks.limit_us(Work(int8_ops=4e8, bytes=8)) == pytest.approx(1000)
    assert peaks.limit_us(Work(bytes=1e6, footprint=2 * BLOCKS[1])) == pytest.approx(5)
    assert peaks.limit_us(Work(bytes=1e6, footprint=2.4 * BLOCKS[1])) == pytest.approx(5)  # about as large
    assert peaks.limit_us(Work(bytes=1e6, footprint=3 * BLOCKS[1])) == pytest.approx(20)
    assert peaks.limit_us(Work(bytes=1e6, footprint=1e12)) == pytest.approx(100)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_chart_is_whole_or_absent(tmp_path: Path, suffix: str) -> None:
    row = {"op": "gemm", "shape": "1x2x3", "dtype": "affine8", "threads": 1, "peer": "torch _int_mm", "ratio": 1.5}
    draw_ratios(tmp_path / f"chart{suffix}", [row, {**row, "peer": "openvino", "ratio": 0.7}, {**row, "peer": None}])
    assert [path.name for path in tmp_path.iterdir()] == [f"chart{suffix}"]
    with pytest.raises(OSError):
        draw_ratios(tmp_path / "no" / "chart.svg", [row])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--threads", "0"], "no list of numbers"),
        (["--threads", "1,x"], "no list of numbers"),
        (["--op", "nothing"], "there are: activate"),
        (["--peer", "mlx"], "is not one of"),
        (["--plot", "chart.pdf", "--op", "softmax"], "neither .svg nor .png"),
    ],
)
def test_wrong_words_are_refused(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _, err = call(monkeypatch, capfd, *words)
    assert code == 2 and told in err.replace("\n", " ")


@pytest.mark.slow
def test_it_measures_beside_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    words = ["--op", "layer_norm 128", "--peer", "torch", "--rounds", "2", "-o", str(tmp_path / "k.json"), "--json"]
    code, out, err = call(monkeypatch, capfd, *words)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    assert json.loads((tmp_path / "k.json").read_text()) == found
    (row,) = found["rows"]
    assert set(row) >= FIELDS and row["peer"] == "torch" and row["ratio"] > 0 and row["roofline_share"] > 0
    (peaks,) = found["peaks"]
    assert peaks["fma_gflops"] > 0 and list(peaks["read_gbps"])[0] == "32 KB"


@pytest.mark.slow
def test_an_absent_peer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('no such toolkit')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    line = "import sys; from ferrule.cli import main; sys.argv[0] = 'ferrule'; main()"
    words = ["bench", "kernels", "--op", "gemv 1x576x1536 affine8", "--peer", "openvino", "--rounds", "1"]
    done = subprocess.run([sys.executable, "-c", line, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert "absent: openvino (ImportError: no such toolkit)" in done.stderr
