"""Converters: a captured model in, a Program out, one file a target.

Every converter is one function `lower(graphs, device, folder, expand) -> Program`, and takes `kernels` where the target
can call ours:
graphs: entry point -> Captured. device: the DeviceProfile built for. folder: an empty folder that receives the files.
expand: whether weights that the target cannot hold natively may be decoded to float (a note then says so); without it
they are refused (LoweringError FER-LOW-002). kernels: whether such weights may be read by Ferrule's own kernels inside
the target's runtime, from a library that the app loads beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ferrule.errors import TargetError

__all__ = ["ALIASES", "TARGETS", "Target", "find_target", "missing_packages"]


@dataclass(frozen=True)
class Target:
    """A row of the table: the function, the extra that brings its toolkit, and the packages that must import.

    kernels: whether its runtime can call Ferrule's own kernels.
    """

    name: str
    home: str
    extra: str
    packages: tuple[str, ...]
    file: str
    summary: str
    kernels: bool = False

    def lower(self) -> Callable[..., Any]:
        """The converter's function; its toolkit is imported only when it runs."""
        module, _, name = self.home.partition(":")
        function: Callable[..., Any] = getattr(import_module(module), name)
        return function

    def remedy(self, missing: Sequence[str]) -> str:
        """What to do about missing packages."""
        if "ferrule.runtime._C" in missing:  # no extra brings it
            return "Install a C++17 compiler, then Ferrule again: its kernels were not built."
        return f"Run: pip install 'ferrule[{self.extra}]'"


TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        Target(
            "coreml",
            "ferrule.converters.coreml.lower:lower",
            "coreml",
            ("torch", "coremltools"),
            ".mlpackage",
            "Core ML ML Program, float16, constexpr weights",
        ),
        Target(
            "executorch",
            "ferrule.converters.executorch:lower",
            "executorch",
            ("torch", "executorch", "torchao"),
            ".pte",
            "ExecuTorch with the XNNPACK delegate",
            kernels=True,
        ),
        Target(
            "executorch-coreml",
            "ferrule.converters.executorch_coreml:lower",
            "executorch,coreml",
            ("torch", "executorch", "coremltools"),
            ".pte",
            "ExecuTorch with the Core ML delegate",
        ),
        Target(
            "litert",
            "ferrule.converters.litert:lower",
            "litert",
            ("torch", "litert_torch", "ai_edge_litert"),
            ".tflite",
            "LiteRT (TensorFlow Lite) flatbuffer",
        ),
        Target(
            "native",
            "ferrule.converters.native:lower",
            "torch",
            ("torch", "ferrule.runtime._C"),
            ".safetensors",
            "Ferrule's own runtime, codes and scales as they are",
        ),
        Target(
            "onnx",
            "ferrule.converters.onnx:lower",
            "onnx",
            ("torch", "onnx", "onnxscript", "onnxruntime"),
            ".onnx",
            "ONNX for ONNX Runtime",
            kernels=True,
        ),
    )
}

ALIASES = {"tflite": "litert", "ort": "onnx"}


def find_target(name: str) -> Target:
    """A row by name or alias; raises TargetError FER-TGT-001 listing the known ones."""
    known = ALIASES.get(name, name)
    if known not in TARGETS:
        close = get_close_matches(name, [*TARGETS, *ALIASES], n=1)
        hint = f"Did you mean {close[0]!r}?" if close else ""
        raise TargetError("FER-TGT-001", f"Target {name!r} is not known; known: {', '.join(TARGETS)}.", hint)
    return TARGETS[known]


def missing_packages(target: Target) -> list[str]:
    """Packages of the target's toolkit that are not installed."""
    return [package for package in target.packages if find_spec(package) is None]
