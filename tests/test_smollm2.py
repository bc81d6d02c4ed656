"""SmolLM2 itself on the native target: a real decoder with state gives the eager model's logits and tokens."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # `benchmarks` is no part of the package

from benchmarks.decoder.smollm2 import as_decoder, find_gguf, load_module, load_tokenizer  # noqa: E402
from ferrule.converters import find_target  # noqa: E402
from ferrule.device_profiles import load  # noqa: E402
from ferrule.errors import SourceError  # noqa: E402
from ferrule.model import capture  # noqa: E402
from ferrule.proof import likeness  # noqa: E402
from ferrule.runtime.session import Session, open_program  # noqa: E402

PROMPT = "Once upon a time a poor woodcutter lived at the edge of a great forest, and every evening he"
CAPACITY, STEPS = 64, 8


@pytest.fixture(scope="module")
def lm() -> nn.Module:
    pytest.importorskip("gguf")
    try:
        find_gguf()
    except SourceError as error:
        pytest.skip(f"{error.message} {error.hint}")
    return load_module()


@pytest.fixture(scope="module")
def session(lm: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("smollm2")
    program = find_target("native").lower()(capture(as_decoder(lm, CAPACITY)), load("raspberry-pi-5"), folder, False)
    with open_program(folder / program.main, program.target, program.entry_points) as opened:
        yield opened
    (folder / program.main).unlink()  # half a gigabyte


@pytest.mark.slow
def test_logits_and_tokens_are_those_of_the_eager_model(lm: nn.Module, session: Session) -> None:
    ids = np.array(load_tokenizer()(PROMPT).input_ids)
    position, last = np.array([0]), np.array([len(ids) - 1])
    with torch.no_grad():
        wanted = lm(torch.from_numpy(ids)[None], use_cache=False).logits[0].numpy()
    for _ in range(2):  # and again after a reset
        found = session.run({"ids": ids[None], "position": position, "kept": np.arange(len(ids))}, "prefill")["logits"]
        assert likeness(wanted, found[0]) > 0.9999
        session.reset()
    found = session.run({"ids": ids[None], "position": position, "kept": last}, "prefill")["logits"]
    tokens = [int(found[0, 0].argmax())]
    for place in range(len(ids), len(ids) + STEPS - 1):
        found = session.run({"ids": np.array([[tokens[-1]]]), "position": np.array([place])}, "decode")["logits"]
        tokens.append(int(found[0, 0].argmax()))
    assert tokens == _continue(lm, ids.tolist())


def _continue(lm: nn.Module, ids: list[int]) -> list[int]:
    """The likeliest tokens by the whole sequence each time: without a cache, nothing of one can be wrong."""
    found: list[int] = []
    with torch.no_grad():
        for _ in range(STEPS):
            found.append(int(lm(torch.tensor([ids + found]), use_cache=False).logits[0, -1].argmax()))
    return found
