"""SmolLM2 itself on the native target: a real decoder with state gives the eager model's logits and tokens; and its
benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # `benchmarks` is no part of the package

from benchmarks.decoder.smollm2 import as_decoder, find_gguf, load_module, load_tales, load_tokenizer  # noqa: E402
from ferrule.converters import find_target  # noqa: E402
from ferrule.device_profiles import load  # noqa: E402
from ferrule.errors import SourceError  # noqa: E402
from ferrule.model import capture  # noqa: E402
from ferrule.proof import likeness  # noqa: E402
from ferrule.runtime.session import Session, open_program  # noqa: E402

PROMPT = "Once upon a time a poor woodcutter lived at the edge of a great forest, and every evening he"
CAPACITY, STEPS = 64, 8


@pytest.fixture(scope="module")
def needed() -> None:
    """Packages that hold the model and the texts."""
    pytest.importorskip("gguf")
    try:
        find_gguf()
        load_tales()
    except SourceError as error:
        pytest.skip(f"{error.message} {error.hint}")


@pytest.fixture(scope="module")
def lm(needed: None) -> nn.Module:
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


@pytest.mark.slow
def test_the_benchmark_tells_a_recipe_that_fails(needed: None, tmp_path: Path) -> None:
    out = tmp_path / "decoder.json"
    words = ["no-such", "--peer", "torch", "--threads", "1", "--rounds", "1", "--texts", "1", "-o", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.decoder", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    found = json.loads(out.read_text())
    assert found["complete"] and found["versions"]["torch"] == torch.__version__
    ours, torchs = found["rows"]
    assert ours["way"] == "ferrule no-such" and "FER-REC-001" in ours["error"] and "prefill_tokens_s" not in ours
    assert "failed: RecipeError: FER-REC-001" in done.stdout
    assert torchs["cosine"] == 1 and torchs["greedy"] == torchs["greedy_of"] == 32 and torchs["decode_tokens_s"] > 0
    assert torchs["perplexity"] == found["reference_perplexity"] < 40
