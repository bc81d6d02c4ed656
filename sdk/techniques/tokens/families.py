"""Families of transformer blocks, each taken apart into its attention and its feed-forward half.

Tokens are merged between the two. A half calls the block's own layers by their names, so that it makes no difference
whether a quantizer has replaced them before or replaces them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

__all__ = ["FAMILIES", "Family", "blocks_of", "find_family", "find_stacks"]

Attend = Callable[[Any, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""(block, x, bias [batch, keys] or None) -> x after attention and its residual, keys [batch, heads, tokens, width]."""

Feed = Callable[[Any, Tensor], Tensor]
"""(block, x) -> x after the feed-forward layers and their residual."""


@dataclass(frozen=True)
class Family:
    """Blocks by `module.Class`, their halves, and the leading tokens that heads read and that nothing may swallow.

    fits: whether such a block, of these settings, is taken apart rightly.
    """

    name: str
    blocks: tuple[str, ...]
    attend: Attend
    feed: Feed
    fits: Callable[[Any], bool] = lambda block: True
    protected: int = 1


def find_family(block: nn.Module) -> Family | None:
    """The family that a block belongs to."""
    name = f"{type(block).__module__}.{type(block).__name__}"
    return next((f for f in FAMILIES if name in f.blocks and f.fits(block)), None)


def blocks_of(container: nn.Module) -> list[nn.Module]:
    """The blocks of a container, in the order in which they are run."""
    return list(container.children())


def find_stacks(root: nn.Module) -> Iterator[tuple[str, nn.Module, Family, int]]:
    """Runs of blocks of one family: path, container, family, and how many leading tokens to protect."""
    for path, container in root.named_modules():
        if not isinstance(container, nn.Sequential | nn.ModuleList) or not len(container):
            continue
        families = [find_family(block) for block in container]
        family = families[0]
        if family is not None and all(f is family for f in families):
            owner = root.get_submodule(path.rpartition(".")[0]) if path else root
            yield path, container, family, _protected(root, owner, family)


def _protected(root: nn.Module, owner: nn.Module, family: Family) -> int:
    prefix = getattr(owner, "num_prefix_tokens", None)  # timm's
    if isinstance(prefix, int):
        return prefix
    registers = getattr(getattr(owner, "config", None), "num_register_tokens", 0) or 0
    return family.protected + int(registers)


def _heads(x: Tensor, count: int) -> Tensor:
    """[batch, tokens, width] -> [batch, heads, tokens, width of a head]."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _attention(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor | None) -> Tensor:
    """[batch, tokens, width], heads side by side."""
    scores = (q * scale) @ k.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias[:, None, None, :]
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def _timm_attend(block: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    attn, given = block.attn, block.norm1(x)
    qkv, width = attn.qkv(given), attn.num_heads * attn.head_dim
    # Slices, since XNNPACK has them and no chunk.
    q, k, v = (_heads(qkv[..., i * width : (i + 1) * width], attn.num_heads) for i in range(3))
    q, k = attn.q_norm(q), attn.k_norm(k)
    mixed = attn.norm(_attention(q, k, v, attn.scale, bias))
    if attn.gate is not None:
        mixed = mixed * attn.gate(given).sigmoid()
    return x + block.drop_path1(block.ls1(attn.proj(mixed))), k


def _timm_feed(block: Any, x: Tensor) -> Tensor:
    y: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
    return y


def _vit_attend(block: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    mixed, keys = _vit_attention(block.attention, block.layernorm_before(x), bias)
    return x + mixed, keys


def _vit_feed(block: Any, x: Tensor) -> Tensor:
    y: Tensor = x + block.mlp(block.layernorm_after(x))
    return y


def _dino_attend(block: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    mixed, keys = _vit_attention(block.attention, block.norm1(x), bias)
    return x + block.layer_scale1(mixed), keys


def _dino_feed(block: Any, x: Tensor) -> Tensor:
    y: Tensor = x + block.layer_scale2(block.mlp(block.norm2(x)))
    return y


def _vit_attention(attn: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    q, k, v = (_heads(part(x), attn.num_attention_heads) for part in (attn.q_proj, attn.k_proj, attn.v_proj))
    return attn.o_proj(_attention(q, k, v, attn.scaling, bias)), k


def _bert_attend(block: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    attn = block.attention.self
    q, k, v = (_heads(part(x), attn.num_attention_heads) for part in (attn.query, attn.key, attn.value))
    return block.attention.output(_attention(q, k, v, attn.scaling, bias), x), k


def _bert_feed(block: Any, x: Tensor) -> Tensor:
    y: Tensor = block.feed_forward_chunk(x)
    return y


def _bert_fits(block: Any) -> bool:
    return not block.is_decoder and not block.add_cross_attention


def _distilbert_attend(block: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    attn = block.attention
    q, k, v = (_heads(part(x), attn.n_heads) for part in (attn.q_lin, attn.k_lin, attn.v_lin))
    return block.sa_layer_norm(attn.out_lin(_attention(q, k, v, attn.scaling, bias)) + x), k


def _distilbert_feed(block: Any, x: Tensor) -> Tensor:
    y: Tensor = block.output_layer_norm(block.ffn.ff_chunk(x) + x)
    return y


def _torch_attend(block: Any, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    attn, given = block.self_attn, block.norm1(x) if block.norm_first else x
    q, k, v = (_heads(part(given), attn.num_heads) for part in (attn.q_proj, attn.k_proj, attn.v_proj))
    mixed = x + attn.out_proj(_attention(q, k, v, q.shape[-1] ** -0.5, bias))
    return (mixed if block.norm_first else block.norm1(mixed)), k


def _torch_feed(block: Any, x: Tensor) -> Tensor:
    given = block.norm2(x) if block.norm_first else x
    y: Tensor = x + block.linear2(block.activation(block.linear1(given)))
    return y if block.norm_first else block.norm2(y)


_BERT_LIKE = {
    "bert": "Bert",
    "camembert": "Camembert",
    "data2vec": "Data2VecText",
    "electra": "Electra",
    "roberta": "Roberta",
    "xlm_roberta": "XLMRoberta",
}
_BERTS = tuple(
    f"transformers.models.{folder}.modeling_{folder}{'_text' if folder == 'data2vec' else ''}.{name}Layer"
    for folder, name in _BERT_LIKE.items()
)

FAMILIES = (
    Family(
        "timm's vision transformers (vit_*, deit_*)",
        ("timm.models.vision_transformer.Block",),
        _timm_attend,
        _timm_feed,
        lambda block: type(block.attn).__name__ == "Attention",
    ),
    Family("ViT of transformers", ("transformers.models.vit.modeling_vit.ViTLayer",), _vit_attend, _vit_feed),
    Family(
        "DeiT of transformers",
        ("transformers.models.deit.modeling_deit.DeiTLayer",),
        _vit_attend,
        _vit_feed,
        protected=2,
    ),
    Family(
        "DINOv2 of transformers",
        (
            "transformers.models.dinov2.modeling_dinov2.Dinov2Layer",
            "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers.Dinov2WithRegistersLayer",
        ),
        _dino_attend,
        _dino_feed,
    ),
    Family("BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, Data2VecText", _BERTS, _bert_attend, _bert_feed, _bert_fits),
    Family(
        "DistilBERT",
        ("transformers.models.distilbert.modeling_distilbert.TransformerBlock",),
        _distilbert_attend,
        _distilbert_feed,
    ),
    Family(
        "torch.nn.TransformerEncoder",
        ("torch.nn.modules.transformer.TransformerEncoderLayer",),
        _torch_attend,
        _torch_feed,
        # One that split_attention could not take apart has no key layer to read.
        lambda block: hasattr(block.self_attn, "q_proj"),
    ),
)
