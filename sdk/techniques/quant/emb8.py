"""`emb8`: embedding tables in int8, one scale for each row (token)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferrule.model import Model

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Options", "code_embeddings"]


@dataclass(frozen=True)
class Options:
    """min_rows: tables with fewer rows stay in float. layers, skip: globs of layer names to code, to leave in float."""

    min_rows: int = 1024
    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()


def code_embeddings(model: Model, options: Options, data: list[Mapping[str, Tensor]] | None = None) -> Model:
    """Code embedding tables as Affine(8 bits, per row); `data` is not used."""
    from torch import nn

    from ferrule.codec import encode_affine
    from ferrule.coded import CodedEmbedding
    from ferrule.techniques.quant.layers import Choice, replace_layers

    choice = Choice(options.layers, options.skip)

    def make(name: str, layer: nn.Module) -> nn.Module | None:
        assert isinstance(layer, nn.Embedding)
        if layer.num_embeddings < options.min_rows:
            return None
        return CodedEmbedding(encode_affine(layer.weight, bits=8))

    return replace_layers(model, "emb8", lambda layer: type(layer) is nn.Embedding, make, choice, CodedEmbedding)
