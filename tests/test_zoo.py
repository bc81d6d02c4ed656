"""The zoo: three of its architectures on all targets, its lively weights, and that its checks and table are sharp."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # `benchmarks` is no part of the package

from benchmarks.zoo.lively import enliven, settle  # noqa: E402
from benchmarks.zoo.run import _centred_cosine, build  # noqa: E402
from benchmarks.zoo.table import write_table  # noqa: E402

TARGETS = ["coreml", "executorch", "litert", "onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "u-net", "gru"])
def test_an_architecture_is_proven_on_all_targets(name: str) -> None:
    outcomes = build(name, "fp", TARGETS)
    assert {t: o["status"] for t, o in outcomes.items()} == dict.fromkeys(TARGETS, "proven"), outcomes
    assert all(o["cosine"] > 0.999 and o["contrast"] > 0.999 for o in outcomes.values()), outcomes


def test_lively_weights_let_every_layer_matter() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.scale = nn.Parameter(1e-6 * torch.ones(1, 8, 1, 1))  # a layer scale as networks begin with
            nn.init.zeros_(self.norm.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x)) * self.scale

    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    before = Scaled().eval()
    assert float(before(x).detach().abs().max()) == 0.0
    after = settle(enliven(Scaled()), x)
    assert not after.training and float(after(x).detach().std()) > 0.01
    again = settle(enliven(Scaled()), x)
    assert torch.equal(after(x), again(x))


def test_contrast_tells_a_constant_answer_from_a_true_one() -> None:
    generator = np.random.default_rng(0)
    wanted = [100 + generator.normal(size=(1, 10)) for _ in range(4)]
    constant = [np.full((1, 10), 100.0) for _ in range(4)]
    assert _centred_cosine(wanted, wanted) == pytest.approx(1.0) and _centred_cosine(wanted, constant) == 0.0
    rows = [100 + generator.normal(size=(1, n, 6)) for n in (3, 7)]
    swapped = [np.flip(row, 1) for row in rows]
    assert _centred_cosine(rows, rows) == pytest.approx(1.0) and _centred_cosine(rows, swapped) < 0.5


def test_the_table_counts_what_is_proven_and_says_why_the_rest_is_not(tmp_path: Path) -> None:
    proven = {"status": "proven", "cosine": 0.99999, "contrast": 0.9998}
    refused = {"status": "refused", "code": "FER-LOW-001", "reason": "no op 'a|b'"}
    row: dict[str, Any] = {"family": "vision", "planned": True, "fp": dict.fromkeys(TARGETS, proven)}
    rows = {"vit": row, "odd": {**row, "planned": False, "fp": {**row["fp"], "litert": refused}}}
    assert write_table({"vit": row}, tmp_path / "zoo.md") == 0
    assert write_table(rows, tmp_path / "zoo.md") == 1  # 7 of 8 is less than nine tenths
    page = (tmp_path / "zoo.md").read_text()
    assert "7 proven, 1 refused, 0 failed, 0 wrong (87.5 % proven)" in page
    assert "**refused** FER-LOW-001" in page and "- `odd`, litert, fp: refused, FER-LOW-001: no op 'a\\|b'" in page
    wrong = {"status": "wrong", "code": "FER-PAR-001", "reason": "cosine 0.2"}
    many = {str(i): row for i in range(20)} | {"bad": {**row, "fp": {**row["fp"], "onnx": wrong}}}
    assert write_table(many, tmp_path / "zoo.md") == 1  # one wrong result is too many
