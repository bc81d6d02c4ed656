"""Checkpoints of transformers at toy size, written to disk and read back by the source `hf:`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.zoo.lively import enliven
from ferrule.model import Model
from ferrule.sources import load_model
from ferrule.sources.torchvision_ops import declare_torchvision_ops

__all__ = ["hf_model", "text_model", "toy"]

TEXT = {
    "vocab_size": 320,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def toy(kind: str, **options: Any) -> Any:
    """A module of the class `transformers.<kind>`, made from its configuration; attention is the plain one."""
    declare_torchvision_ops()
    import transformers

    made = getattr(transformers, kind)
    config = made.config_class(**options)
    config._attn_implementation = "eager"
    return enliven(made(config))


def hf_model(kind: str, **options: Any) -> Callable[[str], Model]:
    """A builder that saves the checkpoint, reads it as `hf:DIRECTORY`, and forgets the directory."""

    def build(name: str) -> Model:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            toy(kind, **options).save_pretrained(folder)
            model = load_model(f"hf:{folder}")
        return replace(model, assets={})

    return build


def text_model(kind: str, **options: Any) -> Callable[[str], Model]:
    """`hf_model` with the usual sizes of a text model, which `options` may replace."""
    return hf_model(kind, **{**TEXT, **options})
