"""`hf:DIRECTORY`: a transformers checkpoint on disk, text or vision; nothing is fetched and no remote code is run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.errors import SourceError
from ferrule.hush import hush
from ferrule.model import Dim, EntryPoint, Model

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["files", "load", "load_quietly"]

ASSETS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "preprocessor_config.json")


def files(directory: str) -> tuple[str, list[Path]] | None:
    """What settles the model: the folder's name and files; None for an adapter, whose base model lies elsewhere."""
    folder = Path(directory).expanduser().resolve()
    if not folder.is_dir() or (folder / "adapter_config.json").exists():
        return None
    return f"hf:{folder.name}", sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def load(directory: str) -> Model:
    """A Model from a checkpoint; raises SourceError FER-SRC-002 (absent) or FER-SRC-003 (unreadable)."""
    folder = Path(directory).expanduser().resolve()  # the model is named after the folder, which may be given as "."
    if not folder.is_dir():
        raise SourceError("FER-SRC-002", f"{folder} is no directory.", "Give that of a transformers checkpoint.")
    config = _read_config(folder)
    if config.get("is_encoder_decoder"):
        raise SourceError(
            "FER-SRC-004",
            f"{folder.name} is an encoder-decoder ({config.get('model_type')}); hf: takes encoders, decoders and ViTs.",
            "Wrap the half that you need in a FILE.py:FUNCTION.",
        )
    kind = _kind(config)
    model = load_quietly(kind, folder)
    takes = str(getattr(model, "main_input_name", "input_ids"))
    if takes == "pixel_values":
        return _vision(folder, config, model)
    if takes != "input_ids":
        raise SourceError(
            "FER-SRC-004",
            f"{folder.name} ({type(model).__name__}) takes {takes!r}; hf: takes models of text and of pictures.",
            "Return the module with its example inputs from a FILE.py:FUNCTION.",
        )
    return _text(folder, config, model)


def load_quietly(kind: str, folder: Path, **options: Any) -> nn.Module:
    """`transformers.<kind>.from_pretrained` in float32 with eager attention, offline, without its chatter.

    Eager attention is a plain matmul, add, softmax, matmul, which all four targets take; the fused op is decomposed by
    some of them into a softmax guarded against fully masked rows, whose guards no accelerator runs.
    """
    from ferrule.sources.torchvision_ops import declare_torchvision_ops

    declare_torchvision_ops()
    import torch
    import transformers

    with hush(), _quiet(transformers):
        try:
            model: nn.Module = getattr(transformers, kind).from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, attn_implementation="eager", **options
            )
        except Exception as error:
            first = (str(error).strip().splitlines() or ["no message"])[0][:300]
            raise SourceError(
                "FER-SRC-003",
                f"{kind} cannot be loaded from {folder}: {type(error).__name__}: {first}",
                "Check that the directory holds a complete checkpoint of a class that transformers knows.",
            ) from error
    return model.eval()


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise SourceError(
            "FER-SRC-002", f"{folder} holds no config.json.", "Give the directory of a transformers checkpoint."
        )
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise SourceError("FER-SRC-003", f"{path} is not JSON: {error}.") from error
    if not isinstance(config, dict):
        raise SourceError("FER-SRC-003", f"{path} holds a {type(config).__name__}; an object is needed.")
    return config


def _kind(config: dict[str, Any]) -> str:
    """The class that the checkpoint was saved from; pre-training heads are not what an app wants.

    `T5EncoderModel` and `CLIPVisionModel` are parts of what AutoModel would build for their configurations.
    """
    from ferrule.sources.torchvision_ops import declare_torchvision_ops

    declare_torchvision_ops()  # looking for a vision class imports torchvision
    import transformers

    name = (config.get("architectures") or ["AutoModel"])[0]
    plain = name.endswith(("ForMaskedLM", "ForPreTraining")) or not hasattr(transformers, name)
    return "AutoModel" if plain else str(name)


def _text(folder: Path, config: dict[str, Any], model: nn.Module) -> Model:
    import torch

    from ferrule.sources.text_encoder import TextModel, accepts_additive_mask
    from ferrule.text import sentences, tokenize

    vocabulary = int(config.get("vocab_size", 2))
    extra = {"use_cache": False} if "CausalLM" in type(model).__name__ or hasattr(model.config, "use_cache") else {}
    # The attribute, not the file's key: transformers knows `n_positions` and its like under one name.
    longest = getattr(model.config, "max_position_embeddings", None) or 512
    pad = _pad_token(model, vocabulary)
    (output,) = _outputs(model, {"input_ids": _token_ids(2, vocabulary, pad), **extra}, (("logits",),))
    limit = _longest(TextModel(model, output, False, extra), max(2, min(int(longest), 256)), vocabulary, pad, folder)
    additive = accepts_additive_mask(model, output, vocabulary, extra)
    proofs = _random_tokens(limit, vocabulary, pad)
    proof_source = f"{len(proofs)} rows of random tokens"
    if (folder / "tokenizer.json").is_file():
        rows = tokenize(folder / "tokenizer.json", sentences(), min(limit, 128))
        proofs = [{k: torch.from_numpy(v) for k, v in row.items()} for row in rows]
        proof_source = f"{len(proofs)} English sentences"
    example = _token_ids(min(16, limit), vocabulary, pad)
    tokens = {1: Dim("tokens", 2, limit)}
    entry = EntryPoint(
        TextModel(model, output, additive, extra).eval(),
        inputs={"input_ids": example, "attention_mask": torch.ones_like(example)},
        dynamic={"input_ids": tokens, "attention_mask": tokens},
        padding={"input_ids": pad, "attention_mask": 0},
        outputs=(output,),
    )
    return Model(
        {"forward": entry},
        source=f"hf:{folder.name}",
        assets={name: folder / name for name in ASSETS if (folder / name).is_file()},
        processing={"kind": "text", "tokenizer": "tokenizer.json", "max_length": limit, "output": output},
        proof_inputs=tuple(proofs),
        proof_source=proof_source,
    )


def _outputs(model: nn.Module, inputs: Mapping[str, Any], wanted: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The first group of fields that the model's answer has, tried out; the hidden states where it has none."""
    import torch

    hidden = ("last_hidden_state",)
    try:
        with torch.no_grad():
            found = model(**inputs)
    except Exception:  # what the model is then called for says why
        return hidden
    return next(
        (group for group in wanted if all(isinstance(getattr(found, n, None), torch.Tensor) for n in group)), hidden
    )


def _pad_token(model: nn.Module, vocabulary: int) -> int:
    """What fills a row up: models that count positions by it (RoBERTa) must see no other."""
    pad = getattr(model.config, "pad_token_id", None)
    return pad if isinstance(pad, int) and 0 <= pad < vocabulary else 0


def _token_ids(length: int, vocabulary: int, pad: int) -> Tensor:
    """int64 [1, length], rising, without the padding token."""
    import torch

    ids = torch.arange(1, length + 1)[None] % max(vocabulary, 2)
    return torch.where(ids == pad, (ids + 1) % max(vocabulary, 2), ids)


def _random_tokens(limit: int, vocabulary: int, pad: int) -> list[dict[str, Tensor]]:
    """Rows of several lengths, so that the proof sees padding and more than one bucket."""
    import torch

    generator = torch.Generator().manual_seed(0)
    rows = []
    for length in sorted({min(n, limit) for n in (5, 16, 40, 100)}):
        ids = torch.randint(0, max(vocabulary, 2), (1, length), generator=generator)
        ids[ids == pad] = (pad + 1) % max(vocabulary, 2)
        rows.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return rows


def _longest(module: nn.Module, most: int, vocabulary: int, pad: int, folder: Path) -> int:
    """The most tokens that the model takes, tried out: RoBERTa's first positions are reserved, and configs err.

    Raises SourceError FER-SRC-004 for a model that takes none.
    """
    import torch

    def fails(length: int) -> Exception | None:
        ids = _token_ids(length, vocabulary, pad)
        try:
            with torch.no_grad():
                module(ids, torch.ones_like(ids))
        except Exception as error:
            return error
        return None

    if (error := fails(2)) is not None:
        first = (str(error).strip().splitlines() or ["no message"])[0][:300]
        raise SourceError(
            "FER-SRC-004",
            f"{folder.name} cannot be called with input_ids and attention_mask: {type(error).__name__}: {first}",
            "Wrap the part that you need in a module and return it, with example inputs, from a FILE.py:FUNCTION.",
        ) from error
    works, broken = 2, most + 1
    if fails(most) is None:
        return most
    while broken - works > 1:
        middle = (works + broken) // 2
        works, broken = (middle, broken) if fails(middle) is None else (works, middle)
    return works


def _vision(folder: Path, config: dict[str, Any], model: nn.Module) -> Model:
    import torch

    from ferrule.sources.vision import VisionModel, pictures

    size = config.get("image_size", 224)  # networks of convolutions alone take any
    height, width = (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
    shape = (int(config.get("num_channels", 3)), height, width)
    inputs = tuple({"pixel_values": torch.from_numpy(p)} for p in pictures(8, shape))
    outputs = _outputs(model, dict(inputs[0]), (("logits", "pred_boxes"), ("logits",), ("predicted_depth",)))
    entry = EntryPoint(VisionModel(model, *outputs).eval(), inputs[0], outputs=outputs)
    return Model(
        {"forward": entry},
        source=f"hf:{folder.name}",
        assets={name: folder / name for name in ASSETS if (folder / name).is_file()},
        processing={"kind": "image", "input": "pixel_values", "shape": [1, *shape], "output": ", ".join(outputs)},
        proof_inputs=inputs,
        proof_source="8 synthetic pictures",
    )
