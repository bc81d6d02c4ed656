"""Sessions on real engines: threads that share one, closing while one runs, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ferrule.converters import find_target
from ferrule.device_profiles import load
from ferrule.errors import ProgramError, TargetError, UsageError
from ferrule.model import Captured, Dim, EntryPoint, Model, capture
from ferrule.program import Program
from ferrule.runtime.session import Session, open_program

WIDTH = 256


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(16, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(24))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        for layer in self.layers:
            x = x + nn.functional.gelu(layer(x))  # layer
        return x


@pytest.fixture(scope="module")
def net() -> Net:
    return Net().eval()


@pytest.fixture(scope="module")
def graphs(net: Net) -> dict[str, Captured]:
    tokens = {1: Dim("tokens", 2, 256)}
    return dict(
        capture(Model({"forward": EntryPoint(net, {"ids": torch.arange(9)[None]}, {"ids": tokens})}, source=""))
    )


@pytest.fixture(scope="module")
def opened(graphs: dict[str, Captured], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Session]:
    made: dict[str, tuple[Path, Program]] = {}

    def open_target(target: str) -> Session:
        if target not in made:
            folder = tmp_path_factory.mktemp(target)
            made[target] = folder, find_target(target).lower()(graphs, load("pixel-9"), folder, False)
        folder, program = made[target]
        return open_program(folder / program.main, target, program.entry_points)

    return open_target


def ids(length: int) -> dict[str, Any]:
    return {"ids": np.arange(length)[None] % 16}


@pytest.mark.parametrize("target", ["native", "onnx"])
def test_profile_tells_every_op_and_nearly_all_the_time(opened: Callable[[str], Session], target: str) -> None:
    with opened(target) as session:
        session.run(ids(256))
        found = session.profile(ids(256), runs=5)
    kinds = {kind: count for kind, count, _ in found.by_kind()}
    assert found.engine == session.engine.name and all(op.seconds >= 0 for op in found.ops)
    if target == "native":
        assert kinds["linear"] == 24 and kinds["embedding"] == 1
        assert sum("test_session_engines.py:" in op.source for op in found.ops) >= 24
    else:
        assert kinds["Gather"] == 1 and sum(op.source.startswith("linear") for op in found.ops) >= 24
    assert 0.5 < found.share <= 1.0
    assert sum(seconds for *_, seconds in found.by_kind()) == pytest.approx(sum(op.seconds for op in found.ops))


def test_an_engine_without_a_profiler_says_so(opened: Callable[[str], Session]) -> None:
    with opened("executorch") as session, pytest.raises(TargetError, match="FER-TGT-005.*event tracer"):
        session.profile(ids(9))


@pytest.mark.parametrize("target", ["native", "onnx"])
def test_threads_that_share_a_session_take_turns(opened: Callable[[str], Session], net: Net, target: str) -> None:
    lengths = [2, 9, 31, 200, 5, 64] * 5
    with opened(target) as session, ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda n: session.run(ids(n)), lengths))
    for length, result in zip(lengths, results, strict=True):
        with torch.no_grad():
            wanted = net(torch.from_numpy(ids(length)["ids"])).numpy()
        (found,) = result.values()
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["native", "onnx"])
def test_closing_waits_for_the_run_and_refuses_the_next(opened: Callable[[str], Session], target: str) -> None:
    session = opened(target)
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(session.run, ids(256)) for _ in range(20)]
        running[0].result()
        session.close()
        session.close()
        ends = [each.exception() for each in running]
    assert ends[0] is None
    refused = [end for end in ends if end is not None]
    assert all(isinstance(end, UsageError) and end.code == "FER-USE-005" for end in refused)
    for call in (lambda: session.run(ids(3)), lambda: session.profile(ids(3)), session.reset):
        with pytest.raises(UsageError, match="FER-USE-005"):
            call()


def test_the_native_runtime_refuses_with_its_own_code(opened: Callable[[str], Session]) -> None:
    with opened("native") as session, pytest.raises(ProgramError, match="FER-NAT-008.*16 rows"):
        session.run({"ids": np.array([[3, 16]])})
