"""THE TABLE of techniques: one row a technique, loaded when used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ferrule.errors import RecipeError

if TYPE_CHECKING:
    from ferrule.model import Model

__all__ = ["TECHNIQUES", "Technique", "find_technique"]

ALL = ("coreml", "executorch", "executorch-coreml", "litert", "native", "onnx")


@dataclass(frozen=True)
class Technique:
    """A row: where the function and its `Options` live, what carries it, and how close it stays to the model.

    number: the option that a number after the name sets (`lut4`). presets: such names, to be shown. targets: those that
    hold the result natively. paper: number in the list of papers, empty for the field's common practice. needs_data:
    calibration is required.
    """

    name: str
    home: str
    kind: str
    summary: str
    targets: tuple[str, ...]
    min_cosine: float
    paper: str = ""
    needs_data: bool = False
    number: str = ""
    presets: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """The names that a recipe may call it by, where they are finitely many, else examples."""
        return self.presets or (self.name,)

    def options_type(self) -> type[Any]:
        """The frozen dataclass of options beside the function."""
        options: type[Any] = import_module(self.home.partition(":")[0]).Options
        return options

    def function(self) -> Callable[[Model, Any, Any], Model]:
        """`(Model, Options, Data | None) -> Model`."""
        module, _, name = self.home.partition(":")
        function: Callable[[Model, Any, Any], Model] = getattr(import_module(module), name)
        return function

    def read_options(self, data: Mapping[str, Any]) -> Any:
        """Options from JSON; raises RecipeError FER-REC-003 for unknown names or values that are not allowed."""
        options_type = self.options_type()
        known = {f.name: f for f in fields(options_type)}
        unknown = sorted(set(data) - set(known))
        if unknown:
            raise RecipeError(
                "FER-REC-003",
                f"Technique {self.name!r} has no options {unknown}; it has {sorted(known) or 'none'}.",
            )
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        for name, value in values.items():
            default = known[name].default
            if default is not MISSING and not _is_like(value, default):
                needed = "list of texts" if isinstance(default, tuple) else type(default).__name__
                raise RecipeError(
                    "FER-REC-003", f"Option {name!r} of {self.name!r} is {data[name]!r}; a {needed} is needed."
                )
        try:
            return options_type(**values)
        except ValueError as error:
            raise RecipeError("FER-REC-003", f"Options of {self.name!r}: {error}.") from error


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value from JSON has the type of an option's default; True is no integer here."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return True  # JSON writes 99.0 as 99
    return isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)


def find_technique(name: str) -> tuple[Technique, dict[str, Any]] | None:
    """The row behind a name, and the options that a number at its end stands for; None where there is none."""
    if name in TECHNIQUES:
        return TECHNIQUES[name], {}
    stem = name.rstrip("0123456789")
    row = TECHNIQUES.get(stem)
    if row is None or not row.number or stem == name:
        return None
    return row, {row.number: int(name[len(stem) :])}


TECHNIQUES: dict[str, Technique] = {
    row.name: row
    for row in (
        Technique(
            "conv8",
            "ferrule.techniques.quant.conv8:code_convolutions",
            "quant",
            "int8 convolutions, a scale for each output channel, int8 inputs in ranges found on calibration data",
            ("native",),
            min_cosine=0.9,
            needs_data=True,
        ),
        Technique(
            "emb8",
            "ferrule.techniques.quant.emb8:code_embeddings",
            "quant",
            "int8 embedding tables, a scale for each row",
            ALL,
            min_cosine=0.995,
        ),
        Technique(
            "lut",
            "ferrule.techniques.quant.lut:code_weights",
            "quant",
            "weights as indices into palettes of 2^bits values, float activations",
            ("coreml", "executorch-coreml", "native"),
            min_cosine=0.9,
            number="bits",
            presets=("lut2", "lut4", "lut6", "lut8"),
        ),
        Technique(
            "tome",
            "ferrule.techniques.tokens.tome:merge_tokens",
            "tokens",
            "similar tokens merged in every layer of a transformer encoder",
            ALL,
            min_cosine=0.9,
            paper="24b",
            number="r",
            presets=("tome8",),
        ),
        Technique(
            "w4g32",
            "ferrule.techniques.quant.w4g32:code_weights",
            "quant",
            "int4 weights in groups of 32, dynamic int8 activations",
            ALL,
            min_cosine=0.95,
        ),
        Technique(
            "w8",
            "ferrule.techniques.quant.w8:code_weights",
            "quant",
            "int8 weights, a scale for each output channel, float activations",
            ALL,
            min_cosine=0.995,
        ),
        Technique(
            "w8a8",
            "ferrule.techniques.quant.w8a8:code_weights",
            "quant",
            "int8 weights per channel, int8 activations quantized for each row as they arrive",
            ALL,
            min_cosine=0.99,
        ),
        Technique(
            "w8a8-static",
            "ferrule.techniques.quant.w8a8_static:code_weights",
            "quant",
            "int8 weights per channel, int8 activations in ranges found on calibration data",
            ALL,
            min_cosine=0.9,
            needs_data=True,
        ),
    )
}
