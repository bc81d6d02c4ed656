"""`timm:NAME[@FILE]`: an architecture of timm; weights from a local checkpoint, or random ones, said aloud."""

from __future__ import annotations

from pathlib import Path

from ferrule.errors import SourceError
from ferrule.model import EntryPoint, Model

__all__ = ["files", "load"]


def files(spec: str) -> tuple[str, list[Path]]:
    """What settles the model beside timm itself: the name, and the checkpoint."""
    name, _, checkpoint = spec.partition("@")
    return f"timm:{name}", [Path(checkpoint)] if checkpoint else []


def load(spec: str) -> Model:
    """An architecture by timm's name; raises SourceError FER-SRC-002 (unknown, absent) or -003 (checkpoint)."""
    from ferrule.sources.torchvision_ops import declare_torchvision_ops

    name, _, checkpoint = spec.partition("@")
    declare_torchvision_ops()
    try:
        import timm
    except ImportError as error:
        raise SourceError("FER-SRC-002", "timm is not installed.", "Run: pip install 'ferrule[timm]'") from error
    import torch

    from ferrule.sources.vision import pictures

    if not timm.is_model(name):
        close = timm.list_models(f"*{name[:6]}*")[:5]
        hint = f"Close names: {', '.join(close)}." if close else "See timm.list_models()."
        raise SourceError("FER-SRC-002", f"timm {timm.__version__} has no model {name!r}.", hint)
    with torch.random.fork_rng(devices=[]):  # the caller's random state is left as it was
        torch.manual_seed(0)
        module = timm.create_model(name, pretrained=False).eval()
    notes: tuple[str, ...] = ("weights are random (seed 0): timm:NAME@FILE loads a checkpoint",)
    if checkpoint:
        _load_weights(module, Path(checkpoint))
        notes = ()
    channels, height, width = module.pretrained_cfg["input_size"]
    inputs = tuple({"image": torch.from_numpy(p)} for p in pictures(8, (channels, height, width)))
    return Model(
        {"forward": EntryPoint(module, inputs[0])},
        source=f"timm:{name}",
        processing={"kind": "image", "input": "image", "shape": [1, channels, height, width]},
        proof_inputs=inputs,
        proof_source="8 synthetic pictures",
        notes=notes,
    )


def _load_weights(module: object, path: Path) -> None:
    from timm.models import load_checkpoint

    if not path.is_file():
        raise SourceError("FER-SRC-002", f"Checkpoint {path} does not exist.")
    try:
        load_checkpoint(module, str(path), strict=True)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:300]
        raise SourceError("FER-SRC-003", f"Checkpoint {path} does not fit: {type(error).__name__}: {first}") from error
