"""Let torchvision be imported where its compiled ops do not fit the torch that is installed.

transformers and timm import torchvision for image transforms that are never used here. A CPU-only torch beside the
registry's CUDA-built torchvision cannot load those ops, and the import dies on the first one that is missing. Declaring
the two schemas that the import looks up is enough; the ops themselves stay unavailable, and say so when called.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

__all__ = ["declare_torchvision_ops"]

_declared: list[Any] = []  # a torch Library unregisters its ops when it is collected


def declare_torchvision_ops() -> None:
    """Declare `torchvision::nms` and `qnms` if torchvision is present but cannot define them itself."""
    import sys

    import torch

    if "torchvision" in sys.modules or _declared or find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for op in ("nms", "qnms"):
            library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
