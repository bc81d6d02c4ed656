"""ONNX: one file for each entry point, for ONNX Runtime's CPU provider, which takes any length of a dynamic axis.

Coded ops become ONNX Runtime's own quantized ops (onnx_layers), torch's exporter writes the graph (onnx_export), the
file is written a tensor at a time (onnx_file) and run once to see what the runtime makes of it (onnx_delegation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.converters.coded_sites import CodedSite, coded_sites, recapture
from ferrule.converters.merging_sites import write_out_merging
from ferrule.converters.onnx_delegation import delegation_rows
from ferrule.converters.onnx_export import to_onnx
from ferrule.converters.onnx_file import WEIGHTS, SharedWeights, needs_own_file, stored_weights, write_model
from ferrule.converters.source_lines import mark_origins
from ferrule.model import Captured
from ferrule.program import Program

if TYPE_CHECKING:
    from torch import nn

    from ferrule.device_profiles import DeviceProfile

__all__ = ["lower"]

_PACKAGES = ("onnx", "onnx-ir", "onnxruntime", "onnxscript", "torch")


def lower(
    graphs: Mapping[str, Captured], device: DeviceProfile, folder: Path, expand: bool = False, kernels: bool = False
) -> Program:
    """Write `<entry point>.onnx` for each graph; several graphs share one `weights.bin`.

    The device makes no difference: its CPU provider is the same as here. Raises LoweringError: FER-LOW-001 an op that
    the toolkit or the runtime lacks, FER-LOW-002 a codec with no native form (with `expand` it is decoded and
    noted, with `kernels` those of palettes call our kernel), FER-LOW-004 a module that keeps state. TargetError
    FER-TGT-006 where our kernels are called and their library was not built.
    """
    from ferrule.converters.onnx_layers import layer_maker

    notes: dict[str, None] = {}
    graphs = write_out_merging(graphs)
    places = mark_origins(graphs)
    make = layer_maker(expand, notes, kernels)
    paths = {name: folder / f"{name}.onnx" for name in graphs}
    shared = SharedWeights(folder / WEIGHTS) if len(graphs) > 1 else None
    for name, graph in graphs.items():
        _write(name, graph, make, paths[name], shared)
    feeds = {name: _example_feeds(graph) for name, graph in graphs.items()}
    delegation = delegation_rows(paths, feeds, places)
    if (folder / WEIGHTS).exists():
        notes[f"The weights lie in {WEIGHTS} beside the .onnx files, which are of no use without it."] = None
    return Program(
        target="onnx",
        main=next(iter(paths.values())).name,
        entry_points={name: graph.signature for name, graph in graphs.items()},
        delegation=delegation,
        weights=stored_weights(paths.values()),
        notes=tuple(notes),
        tools=_tools(),
    )


def _write(
    name: str,
    graph: Captured,
    make: Callable[[CodedSite], nn.Module],
    path: Path,
    shared: SharedWeights | None,
) -> None:
    """A function of its own, so that the graph's packed copy is gone before the file is run."""
    model = to_onnx(name, recapture(graph, make) if coded_sites(graph.program) else graph)
    if shared is None and needs_own_file(model):
        shared = SharedWeights(path.with_name(WEIGHTS))
    write_model(model, path, shared)


def _example_feeds(graph: Captured) -> dict[str, Any]:
    values = graph.program.example_inputs[0]
    return {spec.name: v.numpy() for spec, v in zip(graph.signature.inputs, values, strict=True)}


def _tools() -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package) for package in _PACKAGES}
