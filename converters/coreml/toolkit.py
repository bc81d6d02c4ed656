"""What coremltools is given and what it says: types at the boundary, its log, its progress bars, its exceptions."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from typing import Any

from ferrule.converters.buckets import BUCKETS
from ferrule.errors import LoweringError
from ferrule.program import Signature, TensorSpec

__all__ = ["explain", "hide_progress", "input_types", "output_type", "quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the toolkits' log lines and warnings; exceptions pass."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def hide_progress() -> AbstractContextManager[Any]:
    """Hide progress bars, which have no switch; not for imports, whose log handlers would keep the stream."""
    return redirect_stderr(io.StringIO())


def explain(name: str, error: Exception) -> LoweringError:
    """The toolkit's exception as LoweringError FER-LOW-001, its first line kept."""
    text = str(error).strip()
    first = text.splitlines()[0][:300].rstrip(".") if text else type(error).__name__
    return LoweringError(
        "FER-LOW-001",
        f"Entry point {name!r} cannot be converted to Core ML: {first}.",
        "Rewrite that part of the model with other ops, or choose another target.",
    )


def input_types(signature: Signature) -> list[Any]:
    """Float32 at the boundary, integers and booleans as int32; axes of one name share one range."""
    import coremltools as ct
    import numpy as np

    ranges = {
        dim.name: ct.RangeDim(dim.min, dim.max, default=min(max(BUCKETS[1], dim.min), dim.max))
        for dim in signature.dims.values()
    }
    wide = {"float16": np.float16, "bfloat16": np.float32, "float32": np.float32, "float64": np.float32}
    return [
        ct.TensorType(
            name=spec.name,
            shape=[ranges[n] if isinstance(n, str) else n for n in spec.shape] or [1],
            dtype=wide.get(spec.dtype, np.int32),
        )
        for spec in signature.inputs
    ]


def output_type(spec: TensorSpec) -> Any:
    """Float32 at the boundary, or float16 if asked; coremltools chooses for the others."""
    import coremltools as ct
    import numpy as np

    floats = {"float32": np.float32, "float64": np.float32, "bfloat16": np.float32, "float16": np.float16}
    return ct.TensorType(name=spec.name, dtype=floats.get(spec.dtype))
