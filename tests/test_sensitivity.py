"""Sensitivity: each layer compressed alone, the order of the losses, the file for the report, the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ferrule
from ferrule.errors import FerruleError
from ferrule.model import as_model

NET = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval(), (torch.randn(3, 16),)
"""


class Net(nn.Module):
    """Two layers on the way to the output, one of them damped so that its errors hardly show."""

    def __init__(self) -> None:
        super().__init__()
        self.loud, self.quiet, self.head = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.relu(self.loud(x)) + 1e-3 * self.quiet(x))
        return y


def test_layers_are_ranked_by_what_they_cost_alone() -> None:
    torch.manual_seed(0)
    seen: list[tuple[int, int]] = []
    found = ferrule.sensitivity(
        as_model(Net().eval(), (torch.randn(5, 32),)), "lut2", progress=lambda done, total: seen.append((done, total))
    )
    losses = {layer.name: layer.loss for layer in found.layers}
    assert set(losses) == {"loud", "quiet", "head"} and [x.loss for x in found.layers] == sorted(losses.values())[::-1]
    assert found.layers[-1].name == "quiet" and losses["quiet"] < 1e-4 * losses["loud"]
    assert max(losses.values()) < found.all_layers < 3 * sum(losses.values())
    assert seen[0] == (0, 3) and seen[-1] == (3, 3)
    assert {layer.name: layer.elements for layer in found.layers}["head"] == 6 * 32


def test_a_loss_is_what_the_mixed_recipe_shows() -> None:
    torch.manual_seed(1)
    model = as_model(Net().eval(), (torch.randn(5, 32),))
    alone = {layer.name: layer.loss for layer in ferrule.sensitivity(model, "lut2").layers}["loud"]
    steps = [{"technique": "lut2", "options": {"layers": ["loud"]}}]
    coded = ferrule.compress(model, {"steps": steps, "min_cosine": 0})
    x = model.entry_points["forward"].inputs["x"]
    with torch.no_grad():
        a, b = (m.entry_points["forward"].module(x).flatten().double() for m in (model, coded))
    assert alone == pytest.approx(1 - float(torch.cosine_similarity(a, b, dim=0)), abs=1e-8)


def test_packed_attention_is_told_by_its_projections() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.attention(x, x, x, need_weights=False)[0]
            return y

    found = ferrule.sensitivity(as_model(Block().eval(), (torch.randn(1, 5, 16),)), "w8")
    assert {layer.name for layer in found.layers} == {f"attention.{p}_proj" for p in ("q", "k", "v", "out")}


def test_a_recipe_without_a_quantizer_has_nothing_to_show() -> None:
    with pytest.raises(FerruleError) as caught:
        ferrule.sensitivity(as_model(Net().eval(), (torch.randn(5, 32),)), "fp")
    assert caught.value.code == "FER-REC-002"


def test_the_command_writes_what_the_report_reads(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    command = [sys.executable, "-c", "from ferrule.cli import main; main()", "sensitivity", f"{tmp_path}/net.py:make"]
    done = subprocess.run(
        [*command, "-r", "lut4", "-o", str(tmp_path / "out"), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    printed, kept = json.loads(done.stdout), json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert printed == kept and kept["schema"] == 1 and kept["recipe"] == "lut4"
    assert [set(layer) for layer in kept["layers"]] == [{"name", "kind", "elements", "loss", "cosine"}] * 2
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [*command, "-r", "lut4", "-o", str(tmp_path / "file" / "out")], capture_output=True, text=True
    )
    assert done.returncode == 1 and "FER-OUT-001" in done.stderr and "Traceback" not in done.stderr
