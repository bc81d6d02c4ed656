"""Every case, in the order in which they are measured."""

from __future__ import annotations

from ferrule.runtime.bench.kernels.attention import attention_cases
from ferrule.runtime.bench.kernels.case import Case
from ferrule.runtime.bench.kernels.convolutions import conv_cases
from ferrule.runtime.bench.kernels.linear import linear_cases
from ferrule.runtime.bench.kernels.rows import row_cases
from ferrule.runtime.bench.kernels.special import special_cases

__all__ = ["list_cases"]


def list_cases() -> list[Case]:
    """All cases of the benchmark; those of ops that this build lacks are among them and fail with a reason."""
    return [*linear_cases(), *attention_cases(), *row_cases(), *special_cases(), *conv_cases()]
