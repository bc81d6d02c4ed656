"""nn.MultiheadAttention taken apart into linear layers, which techniques can act on.

torch keeps the three input projections in one packed matrix and reads the weight of the output projection directly, so
that none of them is a layer that could be replaced.
"""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn

from ferrule.model import Model, copy_module
from ferrule.techniques.quant.layers import Choice

__all__ = ["SplitAttention", "split_attention"]


_PARTS = ("q_proj", "k_proj", "v_proj", "out_proj")


class SplitAttention(nn.Module):
    """What nn.MultiheadAttention computes in evaluation, called and answering like it, with four linear layers."""

    # nn.TransformerEncoderLayer reads these; packed weights that are not there keep it off its fused CUDA path.
    _qkv_same_embed_dim = False
    in_proj_bias: Tensor | None = None

    def __init__(self, layer: nn.MultiheadAttention) -> None:
        super().__init__()
        self.num_heads, self.batch_first = layer.num_heads, layer.batch_first
        packed = (layer.q_proj_weight, layer.k_proj_weight, layer.v_proj_weight)
        weights = layer.in_proj_weight.chunk(3) if layer._qkv_same_embed_dim else packed
        biases = (None, None, None) if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
        self.q_proj, self.k_proj, self.v_proj = (_linear(w, b) for w, b in zip(weights, biases, strict=True))
        self.out_proj = _linear(layer.out_proj.weight, layer.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Inputs [batch, length, width], [length, batch, width] or [length, width], as nn.MultiheadAttention's."""
        alone = query.dim() == 2
        if alone:
            query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        q, k, v = self._heads(self.q_proj(query)), self._heads(self.k_proj(key)), self._heads(self.v_proj(value))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        if attn_mask is not None:
            mask = _additive(attn_mask)
            scores = scores + (mask.unflatten(0, (-1, self.num_heads)) if mask.dim() == 3 else mask)
        if key_padding_mask is not None:
            scores = scores + _additive(key_padding_mask)[..., None, None, :]
        weights = scores.softmax(-1)
        result = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        shown = (weights.mean(1) if average_attn_weights else weights) if need_weights else None
        if alone:
            return result.squeeze(0), None if shown is None else shown.squeeze(0)
        return (result if self.batch_first else result.transpose(0, 1)), shown

    def _heads(self, x: Tensor) -> Tensor:
        """[batch, length, width] -> [batch, heads, length, width of a head]."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _additive(mask: Tensor) -> Tensor:
    """A mask to be added to scores; -1e4 is as good as minus infinity there and is finite in float16."""
    return mask.float() * -1e4 if mask.dtype == torch.bool else mask


def split_attention(model: Model, choice: Choice = Choice()) -> Model:  # noqa: B008  frozen
    """The model with each nn.MultiheadAttention that the choice reaches taken apart; weights are shared."""
    made: dict[int, nn.Module] = {}
    modules: dict[str, nn.Module] = {}
    for name, entry in model.entry_points.items():
        for path, layer in entry.module.named_modules():
            if _splits(layer) and choice.reaches(path, _PARTS):
                made.setdefault(id(layer), SplitAttention(layer))
        root = made.get(id(entry.module))
        modules[name] = root if root is not None else copy_module(entry.module, made)
        for layer in modules[name].modules():
            if isinstance(layer, nn.TransformerEncoder):
                layer.use_nested_tensor = False  # its short cut for padded batches reads packed weights
    return model.exchange(modules) if made else model


def _splits(layer: nn.Module) -> TypeGuard[nn.MultiheadAttention]:
    return type(layer) is nn.MultiheadAttention and layer.bias_k is None and not layer.add_zero_attn
