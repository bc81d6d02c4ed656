"""Ops that LiteRT's and ExecuTorch's toolkits lack or get wrong, compared with torch in their decomposed forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferrule.converters import decompositions, find_target
from ferrule.device_profiles import load
from ferrule.model import as_model, capture
from ferrule.runtime.session import open_program

ROWS = torch.tensor([2, 0, 1, 2, 0, 1])
EDGES = torch.tensor([-1.0, 0.0, 1.0])
KERNEL = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(4))
SLOPES = torch.linspace(-0.5, 0.5, 6)

BOTH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "pool_largest": lambda x, rows: F.adaptive_max_pool2d(x, 4),
    "running_product": lambda x, rows: (rows.tanh() + 1).cumprod(1),
    "bucketize": lambda x, rows: torch.bucketize(rows, EDGES) * 1.0,
    "searchsorted": lambda x, rows: torch.searchsorted(EDGES, rows, right=True) * 1.0,
    "one_hot": lambda x, rows: F.one_hot(torch.bucketize(rows, EDGES), 4) * 1.0,
}
LITERT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nearest": lambda x, rows: F.interpolate(x, (11, 13), mode="nearest"),
    "nearest_by_factor": lambda x, rows: F.interpolate(x, scale_factor=1.6, mode="nearest"),
    "nearest_smaller": lambda x, rows: F.interpolate(x, (5, 16), mode="nearest"),
    "smooth_bilinear": lambda x, rows: F.interpolate(x, (3, 11), mode="bilinear", antialias=True),
    "smooth_bicubic": lambda x, rows: F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True),
    "join_patches": lambda x, rows: F.fold(F.unfold(x, 3, stride=2), (8, 8), 3, stride=2),
    "index_add": lambda x, rows: torch.zeros(1, 3, 8).index_add(1, ROWS, rows, alpha=2),
    "transposed": lambda x, rows: F.conv_transpose2d(x, KERNEL, torch.ones(2), 2, padding=1, output_padding=1),
    "transposed_beyond": lambda x, rows: F.conv_transpose2d(x, KERNEL, None, 3, output_padding=2),
}
EXECUTORCH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "pad_or_cut": lambda x, rows: F.pad(x, (-1, 2, 1, -2), value=0.5),
    "remainder": lambda x, rows: ((rows * 10).long() % 3) * 1.0,
    "leak": lambda x, rows: F.prelu(rows, SLOPES),
    "leak_of_pictures": lambda x, rows: F.prelu(x, SLOPES[:3]),
}
CASES = {"litert": BOTH | LITERT, "executorch": BOTH | EXECUTORCH}
DEVICES = {"litert": "pixel-9", "executorch": "galaxy-s24"}


class Each(nn.Module):
    """All cases of a target at once: one conversion."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.cases = CASES[target]

    def forward(self, x: Tensor, rows: Tensor) -> dict[str, Tensor]:
        return {name: case(x, rows) for name, case in self.cases.items()}


@pytest.fixture(scope="module", params=CASES)
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    target: str = request.param
    folder: Path = tmp_path_factory.mktemp(target)
    generator = torch.Generator().manual_seed(3)
    inputs = (torch.randn(1, 3, 8, 8, generator=generator), torch.randn(1, 6, 8, generator=generator))
    program = find_target(target).lower()(capture(as_model(Each(target), inputs)), load(DEVICES[target]), folder)
    with open_program(folder / program.main, target, program.entry_points) as session:
        return target, session.run({"x": inputs[0].numpy(), "rows": inputs[1].numpy()}), Each(target)(*inputs)


def test_decomposed_ops_agree_with_torch(answers: Any) -> None:
    target, found, wanted = answers
    assert set(found) == set(CASES[target])
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-4, atol=1e-5, err_msg=f"{target}: {name}")


def test_a_graph_without_such_ops_stays_the_same_object() -> None:
    program = capture(as_model(nn.Linear(4, 2), (torch.ones(1, 4),)))["forward"].program
    assert decompositions.simplify(program, decompositions.for_litert()) is program


def test_what_a_decomposition_cannot_do_stays_as_it_is() -> None:
    class Uneven(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.adaptive_max_pool2d(x, 3)

    program = capture(as_model(Uneven(), (torch.ones(1, 3, 8, 8),)))["forward"].program
    simple = decompositions.simplify(program, decompositions.for_executorch())
    assert torch.ops.aten.adaptive_max_pool2d.default in {node.target for node in simple.graph.nodes}
