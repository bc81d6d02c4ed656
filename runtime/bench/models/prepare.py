"""The files that are measured: `python -m ferrule.runtime.bench.models.prepare CASE FOLDER` answers questions.

Each way to run a model, in each dtype, gets a folder. Most hold what a converter of ours wrote, with `program.json` for
the engine; peers that quantize better by themselves get a file of their own making from our float32 one.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ferrule.runtime.bench.models.case import CASES, OURS
from ferrule.runtime.bench.models.inputs import fit_length, take_proofs, write_arrays
from ferrule.runtime.bench.process import serve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.model import Model

__all__ = ["PROGRAM", "Preparer", "folder_of"]

PROGRAM = "program.json"
DEVICES = {OURS: "raspberry-pi-5", "onnxruntime": "raspberry-pi-5", "litert": "pixel-9", "executorch": "galaxy-s24"}
TARGETS = {OURS: "native", "onnxruntime": "onnx"}
MOST_CALIBRATION = 64


def folder_of(root: Path, way: str, dtype: str) -> Path:
    """Where the files of a way lie."""
    return root / f"{way} {dtype}".replace(" ", "-")


class Preparer:
    """A model, loaded; `prepare` makes the files of one way and dtype, unless they are there."""

    def __init__(self, case: str, root: str) -> None:
        from ferrule.sources import load_model

        self.case, self.root = CASES[case], Path(root)
        self.model = load_model(self.case.spec)

    def inputs(self) -> dict[str, Any]:
        """Inputs, proofs and float32 answers of each length, and the proofs as long as they are, into files."""
        import torch

        self.root.mkdir(parents=True, exist_ok=True)
        (example, *_) = take_proofs(self.model, 0)
        module = self.model.entry_points["forward"].module
        for length in self.case.lengths:
            proofs = take_proofs(self.model, length)
            write_arrays(self.root / f"inputs-{length}.npz", [fit_length(self.model, example, length, True)])
            write_arrays(self.root / f"proofs-{length}.npz", proofs)
            with torch.inference_mode():
                answers = [module(*(torch.from_numpy(a) for a in row.values())) for row in proofs]
            write_arrays(self.root / f"answers-{length}.npz", [{"0": answer.numpy()} for answer in answers])
        write_arrays(self.root / "texts.npz", take_proofs(self.model, 0))
        return {}

    def prepare(self, way: str, dtype: str, recipe: str) -> dict[str, Any]:
        """Bytes of the files that are opened; the recipe is that of files which our converters write."""
        folder = folder_of(self.root, way, dtype)
        if not folder.is_dir():
            partial = folder.with_name(f".{folder.name}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self._write(way, dtype, recipe, partial)
            partial.rename(folder)
        first = folder / str(self.case.lengths[-1]) if (folder / str(self.case.lengths[-1])).is_dir() else folder
        files = [f for f in first.rglob("*") if f.is_file() and f.name != PROGRAM]
        return {"bytes": sum(f.stat().st_size for f in files)}

    def _write(self, way: str, dtype: str, recipe: str, folder: Path) -> None:
        own = {
            "openvino": self._openvino,
            "onnxruntime dynamic": self._onnx_dynamic,
            "onnxruntime static": self._onnx_static,
            "litert static": self._litert_static,
            "executorch static": self._executorch_static,
        }
        if way in own:
            own[way](dtype, folder)
        elif way == "litert":
            for length in self.case.lengths:  # static shapes are its fastest
                (folder / str(length)).mkdir()
                self._lower("litert", recipe, self._fixed(length), folder / str(length))
        elif way != "torch":
            self._lower(way, recipe, self.model, folder)

    def _lower(self, way: str, recipe: str, model: Model, folder: Path) -> None:
        from ferrule.converters import find_target
        from ferrule.device_profiles import load
        from ferrule.model import capture
        from ferrule.prepare import compress

        target = find_target(TARGETS.get(way, way))
        program = target.lower()(capture(compress(model, recipe)), load(DEVICES[way]), folder, False)
        (folder / PROGRAM).write_text(json.dumps(program.to_json()))

    def _fixed(self, length: int) -> Model:
        """The model with its dynamic axis at one length."""
        import torch

        if not length:
            return self.model
        entry = self.model.entry_points["forward"]
        (example, *_) = take_proofs(self.model, 0)
        fitted = fit_length(self.model, example, length, True)
        inputs = {name: torch.from_numpy(array) for name, array in fitted.items()}
        fixed = replace(entry, inputs=inputs, dynamic={}, padding={})
        return replace(self.model, entry_points={"forward": fixed}, proof_inputs=(inputs,))

    def _float(self, way: str) -> Path:
        """The folder of our float32 file for a runtime."""
        self.prepare(way, "float32", self.case.recipes["float32"])
        return folder_of(self.root, way, "float32")

    def _calibration(self) -> Iterator[dict[str, NDArray[Any]]]:
        for row in self.model.calibration[:MOST_CALIBRATION]:
            yield {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in row.items()}

    def _openvino(self, dtype: str, folder: Path) -> None:
        """Its own post-training quantizer, nncf, from our ONNX file; asymmetric activations."""
        import openvino

        model = openvino.convert_model(self._float("onnxruntime") / "forward.onnx")
        if dtype == "int8":
            import nncf

            is_convolutional = "onnxruntime static" in self.case.peers["int8"]
            model = nncf.quantize(
                model,
                nncf.Dataset(list(self._calibration())),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=None if is_convolutional else nncf.ModelType.TRANSFORMER,
            )
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)

    def _onnx_dynamic(self, dtype: str, folder: Path) -> None:
        """ONNX Runtime's own: int8 weights per channel, inputs quantized as they arrive with a scale for all."""
        from onnxruntime.quantization import quantize_dynamic

        float_folder = self._float("onnxruntime")
        quantize_dynamic(float_folder / "forward.onnx", folder / "forward.onnx", per_channel=True)
        shutil.copy(float_folder / PROGRAM, folder)

    def _onnx_static(self, dtype: str, folder: Path) -> None:
        """ONNX Runtime's own: int8 with ranges found on calibration data, weights per channel."""
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):
            def __init__(self, rows: Iterator[Mapping[str, NDArray[Any]]]) -> None:
                self.rows = rows

            def get_next(self) -> Mapping[str, NDArray[Any]] | None:
                return next(self.rows, None)

        float_folder = self._float("onnxruntime")
        plain = folder / "plain.onnx"
        quant_pre_process(str(float_folder / "forward.onnx"), str(plain))
        rows = Reader(self._calibration())
        quantize_static(plain, folder / "forward.onnx", rows, per_channel=True, activation_type=QuantType.QUInt8)
        plain.unlink()
        shutil.copy(float_folder / PROGRAM, folder)

    def _litert_static(self, dtype: str, folder: Path) -> None:
        """LiteRT's quantizer: int8 weights and activations, ranges found on calibration data; float32 at both ends."""
        from ai_edge_quantizer import Quantizer, recipe
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
        from ai_edge_quantizer.qtyping import TFLOperationName

        for length in self.case.lengths:
            float_folder = self._float("litert") / str(length)
            made = folder / str(length)
            made.mkdir()
            quantizer = Quantizer(str(float_folder / "model.tflite"), recipe.static_wi8_ai8())
            for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):
                quantizer.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
            ranges = quantizer.calibrate({"forward": list(self._calibration())})
            quantizer.quantize(ranges).export_model(str(made / "model.tflite"))
            shutil.copy(float_folder / PROGRAM, made)

    def _executorch_static(self, dtype: str, folder: Path) -> None:
        """ExecuTorch's recipe for XNNPACK: pt2e, per channel, ranges found on calibration data."""
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from executorch.exir import to_edge_transform_and_lower
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        entry = self.model.entry_points["forward"]
        inputs = tuple(entry.inputs.values())
        quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
        with torch.no_grad():
            prepared = prepare_pt2e(torch.export.export(entry.module, inputs).module(), quantizer)
            for row in self._calibration():
                prepared(*(torch.from_numpy(array) for array in row.values()))
            program = torch.export.export(convert_pt2e(prepared), inputs)
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        with (folder / "model.pte").open("wb") as file:
            edge.to_executorch().write_to_file(file)
        shutil.copy(self._float("executorch") / PROGRAM, folder)


if __name__ == "__main__":
    serve(lambda: Preparer(sys.argv[1], sys.argv[2]))
