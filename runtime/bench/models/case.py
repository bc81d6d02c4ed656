"""The models that are measured, and who is measured on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CASES", "OURS", "PEERS", "ModelCase", "package_of"]

OURS = "ferrule"
PEERS = {
    "torch": "torch",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai_edge_litert",
    "executorch": "executorch",
}
"""Peers, and the package that each needs."""


@dataclass(frozen=True)
class ModelCase:
    """A model of `load_model`. lengths: of its dynamic axis; (0,) where it has none.

    recipes: dtype -> recipe of ours, and of peers whose files our converters write. further: our programs that do less
    work than the peers can, told apart: dtype -> recipe. peers: dtype -> those that have it.
    """

    name: str
    spec: str
    lengths: tuple[int, ...]
    recipes: Mapping[str, str]
    further: Mapping[str, str]
    peers: Mapping[str, tuple[str, ...]]


_FLOAT = ("torch", "onnxruntime", "openvino", "litert", "executorch")
_INT8 = ("onnxruntime", "onnxruntime dynamic", "openvino", "litert", "executorch")
_INT8_CONV = ("onnxruntime static", "openvino", "litert static", "executorch static")

CASES = {
    case.name: case
    for case in (
        ModelCase(
            "minilm",
            "sample:minilm",
            (16, 64, 128, 256),
            {"float32": "fp", "int8": "w8a8-emb8"},
            {"int8 tome8": "tome8-w8a8-emb8"},
            {"float32": _FLOAT, "int8": _INT8},
        ),
        ModelCase(
            "vit",
            "sample:vit",
            (0,),
            {"float32": "fp", "int8": "w8a8"},
            {"int8 tome8": "tome8-w8a8"},
            {"float32": _FLOAT, "int8": _INT8},
        ),
        ModelCase(
            "efficientnet",
            "sample:efficientnet",
            (0,),
            {"float32": "fp", "int8": "conv8-w8a8"},
            {},
            {"float32": _FLOAT, "int8": _INT8_CONV},
        ),
    )
}


def package_of(peer: str) -> str:
    """`onnxruntime dynamic` is run by the package `onnxruntime`."""
    return peer.partition(" ")[0]
