"""What techniques with static int8 activations share: their options, and that they need calibration data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferrule.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StaticOptions", "require_data"]


@dataclass(frozen=True)
class StaticOptions:
    """method: how a range is clipped, `mse`, `percentile` or `minmax` (not at all). percentile: kept on either side.

    layers, skip: globs of layer names to code, to leave in float.
    """

    method: str = "mse"
    percentile: float = 99.99
    layers: tuple[str, ...] = ("*",)
    skip: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in ("mse", "percentile", "minmax"):
            raise ValueError(f"method is {self.method!r}; allowed: mse, percentile, minmax")
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile is {self.percentile}; allowed: above 50, up to 100")


def require_data(
    technique: str, data: Sequence[Mapping[str, Tensor]] | None, hint: str
) -> Sequence[Mapping[str, Tensor]]:
    """The calibration data; raises InputError FER-INP-010 where there are none."""
    if not data:
        message = f"Technique {technique!r} chooses ranges on calibration data, and there are none."
        raise InputError("FER-INP-010", message, hint)
    return data
