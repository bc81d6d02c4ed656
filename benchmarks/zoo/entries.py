"""THE TABLE of the zoo: a name, a family, and the function that builds the model when it is its turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.zoo.checkpoints import hf_model, text_model
from benchmarks.zoo.lively import enliven
from benchmarks.zoo.speech import Keywords, Separator, encoder_model, own
from benchmarks.zoo.vision import FPN, UNet, mixer_model, picture_model, poolformer_model, timm_model
from ferrule.model import Model
from ferrule.sources.efficientnet_sample import PACKAGE, efficientnet_lite0

__all__ = ["ENTRIES", "TARGETS", "Entry"]

TARGETS = ("coreml", "executorch", "litert", "onnx")


@dataclass(frozen=True)
class Entry:
    """An architecture. build: its name -> a Model with random weights, proof inputs included.

    extra: tried only after all others had been fixed, to see how general the fixes are. coded: the targets on which
    the recipe w8a8 is tried as well.
    """

    name: str
    family: str
    build: Callable[[str], Model]
    extra: bool = False
    coded: tuple[str, ...] = ("onnx",)


_NARROW = {"channels": (16, 32, 48, 64)}
_WINDOWED = {"img_size": 64, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
_PATCHES = {"image_size": 64, "patch_size": 16, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 16}
_WAVES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (5, 4, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        # Convolutional networks
        Entry("resnet", "convolutional", timm_model("resnet18", **_NARROW)),
        Entry("regnet", "convolutional", timm_model("regnety_002")),
        Entry("densenet", "convolutional", timm_model("densenet121", growth_rate=8, block_config=(2, 2, 2, 2))),
        Entry("mobilenet-v2", "convolutional", timm_model("mobilenetv2_035")),
        Entry("mobilenet-v3", "convolutional", timm_model("mobilenetv3_small_050")),
        Entry("mobilenet-v4", "convolutional", timm_model("mobilenetv4_conv_small_035")),
        Entry("efficientnet", "convolutional", timm_model("efficientnet_b0")),
        Entry("convnext", "convolutional", timm_model("convnext_atto", depths=(1, 1, 2, 1), dims=(16, 32, 48, 64))),
        # Vision transformers and their kin
        Entry("vit", "vision", timm_model("vit_tiny_patch16_224", img_size=64, embed_dim=48, depth=2, num_heads=3)),
        Entry("swin", "vision", timm_model("swin_tiny_patch4_window7_224", **_WINDOWED)),
        Entry("swin-v2", "vision", timm_model("swinv2_tiny_window8_256", **_WINDOWED)),
        Entry("mlp-mixer", "vision", mixer_model),
        Entry(
            "pvt-v2",
            "vision",
            timm_model("pvt_v2_b0", depths=(1, 1, 1, 1), embed_dims=(16, 32, 48, 64), num_heads=(1, 2, 4, 8)),
        ),
        Entry("poolformer", "vision", poolformer_model),
        Entry("mobilevit", "vision", timm_model("mobilevit_xxs")),
        Entry("dinov2", "vision", hf_model("Dinov2Model", **_PATCHES)),
        Entry("clip-vision", "vision", hf_model("CLIPVisionModel", **_PATCHES, intermediate_size=128)),
        # Dense prediction
        Entry("u-net", "dense", lambda name: picture_model(name, enliven(UNet()))),
        Entry("detector-fpn", "dense", lambda name: picture_model(name, enliven(FPN()))),
        Entry(
            "segformer",
            "dense",
            hf_model(
                "SegformerForSemanticSegmentation",
                image_size=64,
                hidden_sizes=[16, 32, 48, 64],
                depths=[1, 1, 1, 1],
                num_attention_heads=[1, 2, 4, 8],
                decoder_hidden_size=32,
                num_labels=5,
            ),
        ),
        # Text encoders
        Entry("bert", "text encoder", text_model("BertModel")),
        Entry("roberta", "text encoder", text_model("RobertaModel", pad_token_id=1, bos_token_id=0)),
        Entry(
            "distilbert",
            "text encoder",
            text_model("DistilBertModel", dim=64, n_layers=2, n_heads=4, hidden_dim=128),
        ),
        Entry("albert", "text encoder", text_model("AlbertModel", embedding_size=32)),
        Entry("electra", "text encoder", text_model("ElectraModel", embedding_size=32)),
        Entry("clip-text", "text encoder", text_model("CLIPTextModel")),
        Entry(
            "t5-encoder",
            "text encoder",
            text_model("T5EncoderModel", d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4),
        ),
        # Decoders
        Entry("llama", "decoder", text_model("LlamaForCausalLM", **_GROUPED)),
        Entry("mistral", "decoder", text_model("MistralForCausalLM", **_GROUPED, sliding_window=16)),
        Entry("qwen2", "decoder", text_model("Qwen2ForCausalLM", num_key_value_heads=2)),
        Entry("qwen3", "decoder", text_model("Qwen3ForCausalLM", **_GROUPED)),
        Entry("gemma", "decoder", text_model("GemmaForCausalLM", **_GROUPED)),
        Entry("gpt2", "decoder", text_model("GPT2LMHeadModel", n_embd=64, n_layer=2, n_head=4, n_positions=64)),
        # Sound
        Entry(
            "whisper-encoder",
            "sound",
            encoder_model(
                "WhisperModel",
                (1, 40, 100),
                lambda whole: whole.encoder,
                num_mel_bins=40,
                d_model=64,
                encoder_layers=2,
                encoder_attention_heads=4,
                encoder_ffn_dim=128,
                decoder_layers=1,
                decoder_attention_heads=4,
                decoder_ffn_dim=64,
                max_source_positions=50,
                max_target_positions=16,
                vocab_size=320,
                pad_token_id=0,
                bos_token_id=1,
                eos_token_id=2,
                decoder_start_token_id=1,
            ),
        ),
        Entry("wav2vec2", "sound", encoder_model("Wav2Vec2Model", (1, 3200), **_WAVES)),
        Entry("hubert", "sound", encoder_model("HubertModel", (1, 3200), **_WAVES)),
        Entry("lstm", "sound", own(lambda: Keywords("lstm"), (1, 40, 48))),
        Entry("gru", "sound", own(lambda: Keywords("gru"), (1, 40, 48))),
        Entry("conv-tasnet", "sound", own(Separator, (1, 1, 800))),
        # Not planned: tried after the fixes that the others had asked for
        Entry("ghostnet", "convolutional", timm_model("ghostnet_050"), extra=True),
        Entry("efficientvit", "vision", timm_model("efficientvit_b0"), extra=True),
        Entry("edgenext", "vision", timm_model("edgenext_xx_small"), extra=True),
        Entry("repvit", "vision", timm_model("repvit_m0_9"), extra=True),
        Entry("xcit", "vision", timm_model("xcit_nano_12_p16_224", img_size=64, depth=2), extra=True),
        Entry(
            "mambaout", "vision", timm_model("mambaout_femto", depths=(1, 1, 2, 1), dims=(16, 32, 48, 64)), extra=True
        ),
        Entry("siglip-vision", "vision", hf_model("SiglipVisionModel", **_PATCHES, intermediate_size=128), extra=True),
        Entry(
            "yolos",
            "dense",
            hf_model(
                "YolosForObjectDetection",
                **{**_PATCHES, "image_size": [64, 64]},
                intermediate_size=128,
                num_detection_tokens=7,
            ),
            extra=True,
        ),
        Entry("opt", "decoder", text_model("OPTForCausalLM", ffn_dim=128, word_embed_proj_dim=64), extra=True),
        Entry("gpt-neox", "decoder", text_model("GPTNeoXForCausalLM"), extra=True),
        Entry("phi3", "decoder", text_model("Phi3ForCausalLM", num_key_value_heads=2), extra=True),
        Entry("gemma3", "decoder", text_model("Gemma3ForCausalLM", **_GROUPED, sliding_window=16), extra=True),
        Entry("bloom", "decoder", text_model("BloomForCausalLM", n_layer=2, n_head=4), extra=True),
        Entry(
            "mixtral",
            "decoder",
            text_model("MixtralForCausalLM", **_GROUPED, num_local_experts=4, num_experts_per_tok=2),
            extra=True,
        ),
        Entry(
            "modernbert",
            "text encoder",
            text_model(
                "ModernBertModel", local_attention=16, global_attn_every_n_layers=2, cls_token_id=1, sep_token_id=2
            ),
            extra=True,
        ),
        Entry("mpnet", "text encoder", text_model("MPNetModel", pad_token_id=1, bos_token_id=0), extra=True),
        Entry(
            "deberta-v2",
            "text encoder",
            text_model("DebertaV2Model", relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"]),
            extra=True,
        ),
        Entry("wavlm", "sound", encoder_model("WavLMModel", (1, 3200), **_WAVES), extra=True),
    )
}

if find_spec(PACKAGE) is not None:
    _REAL = Entry("efficientnet-lite0", "real weights", lambda name: efficientnet_lite0(), coded=TARGETS)
    ENTRIES[_REAL.name] = _REAL
