"""Wrap a transformers text model as a module with two inputs and a graph without surprises."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["SentenceEncoder", "TextModel", "accepts_additive_mask"]

# exp(-1e4) is zero in every precision, and -1e4 is finite in float16, where the usual float32 minimum is not.
MASKED = -1e4


class TextModel(nn.Module):
    """input_ids, attention_mask int64 [1, tokens] -> the field `output` of the wrapped model, float32.

    additive: hand the model a ready float mask [1, 1, 1, tokens]. It computes the same and spares the exported graph
    some thirty ops of mask arithmetic on integers, several of which no accelerator runs.
    """

    def __init__(self, model: nn.Module, output: str, additive: bool, extra: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.model, self.output, self.additive, self.extra = model, output, additive, extra or {}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask
        if self.additive:
            mask = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * MASKED
        result: Tensor = getattr(self.model(input_ids=input_ids, attention_mask=mask, **self.extra), self.output)
        return result


class SentenceEncoder(nn.Module):
    """input_ids, attention_mask int64 [1, tokens] -> L2-normalised mean of the token vectors, float32 [1, width]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = TextModel(model, "last_hidden_state", additive=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.encoder(input_ids, attention_mask)
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
        # The sum of squares is taken on a mean, not on a sum, so that it stays small in float16.
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return mean * torch.rsqrt((mean * mean).sum(-1, keepdim=True))


def accepts_additive_mask(model: nn.Module, output: str, vocabulary: int, extra: dict[str, Any]) -> bool:
    """Whether the model computes the same with the ready mask as with the plain one, tried on padded tokens."""
    ids = torch.arange(1, 17)[None] % max(vocabulary, 2)
    mask = torch.ones_like(ids)
    mask[:, 12:] = 0
    with torch.no_grad():
        try:
            ready = TextModel(model, output, True, extra)(ids, mask)
            plain = TextModel(model, output, False, extra)(ids, mask)
        except Exception:  # whatever the model dislikes about a 4-D mask, the plain one remains
            return False
    return bool(torch.allclose(ready[:, :12], plain[:, :12], atol=1e-5))
