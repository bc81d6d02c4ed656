"""native: Ferrule's own executor, in the extension or, in an app, behind its C interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ferrule.errors import BundleError, ProgramError
from ferrule.program import Signature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ferrule.runtime.profile import OpTime, Profile

__all__ = ["NativeEngine", "open_engine"]


class NativeEngine:
    """See `ferrule.runtime.session.Engine`."""

    name = "ferrule"

    def __init__(self, program: Any, inputs: Mapping[str, list[str]]) -> None:
        self._program, self._inputs = program, inputs

    def run(self, program: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs in the signature's order; `program` is the name of an entry point."""
        with _told():
            results: list[NDArray[Any]] = self._program.run(program, [inputs[name] for name in self._inputs[program]])
        return results

    def profile(self, program: str, inputs: Mapping[str, NDArray[Any]], runs: int) -> list[Profile]:
        """Every op of each run."""
        from ferrule.runtime.profile import Profile

        arrays, found = [inputs[name] for name in self._inputs[program]], []
        for _ in range(runs):
            with _told():
                _, rows, seconds = self._program.profile(program, arrays)
            found.append(Profile(self.name, seconds, tuple(_op_time(*row) for row in rows)))
        return found

    def reset(self) -> None:
        """Put states back to their first values."""
        self._program.reset()

    def close(self) -> None:
        """Free the program."""
        self._program.close()


def open_engine(path: Path, entry_points: Mapping[str, Signature], threads: int) -> NativeEngine:
    """Open a program on `threads` threads. Raises BundleError FER-BUN-020 for a file that the executor refuses."""
    from ferrule.runtime import _C

    try:
        program = _C.Program(str(path), threads)
    except _C.ProgramError as error:
        raise BundleError(
            "FER-BUN-020", f"The native executor does not load {path.name}: {error}", "Build it again."
        ) from error
    return NativeEngine(program, {name: [spec.name for spec in s.inputs] for name, s in entry_points.items()})


def _op_time(op: str, place: str, seconds: float) -> OpTime:
    """place: `linear (net.py:12)`, or the op alone."""
    from ferrule.runtime.profile import OpTime

    return OpTime(op, place.removeprefix(op).strip(" ()"), seconds)


@contextmanager
def _told() -> Iterator[None]:
    """The runtime's refusals as Ferrule's."""
    from ferrule.runtime import _C

    try:
        yield
    except _C.ProgramError as error:
        code, _, message = str(error).partition(" ")
        raise ProgramError(code, message) from error
