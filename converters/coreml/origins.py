"""Which node of the captured graph each value of an ML Program was made from, as coremltools itself kept track of it.

coremltools carries numbers (`debug_handle`) from the nodes that it is given through all of its passes, merges included;
they are read from the program in memory, because no package holds them. Bucketed functions, made from that program by
some of the passes again, keep most names of values; `complete` sees to the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ferrule.converters.coreml.mil import MilFunction, MilProgram
from ferrule.converters.source_lines import Places, origin
from ferrule.program import Signature, bucket_name

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["Origins", "complete", "convert", "spread", "tell_sources", "watch"]

_CAST = re.compile(r"_(cast|to)_(u?int|fp)\d+$")

Origins = Mapping[str, str]
"""Name of a value in the ML Program -> name of the node of the captured graph."""


def convert(program: ExportedProgram, **options: Any) -> tuple[Any, Origins]:
    """`coremltools.convert`, and where the values of its program came from."""
    import coremltools as ct

    _number(program)
    model = ct.convert(program, **options)
    return model, _read(program, model)


@contextmanager
def watch() -> Iterator[list[Origins]]:
    """The origins of every conversion that a toolkit makes in this block, in order."""
    import coremltools as ct

    found: list[Origins] = []
    before = ct.convert

    def watched(model: Any, *rest: Any, **options: Any) -> Any:
        _number(model)
        made = before(model, *rest, **options)
        found.append(_read(model, made))
        return made

    ct.convert = watched
    try:
        yield found
    finally:
        ct.convert = before


def _number(program: ExportedProgram) -> None:
    for index, node in enumerate(program.graph.nodes):
        node.meta.setdefault("debug_handle", index)


def _read(program: ExportedProgram, model: Any) -> Origins:
    from coremltools.converters.mil.mil.scope import ScopeSource

    named = {node.meta["debug_handle"]: origin(node) for node in program.graph.nodes if origin(node)}
    found: dict[str, str] = {}
    for function in model._mil_program.functions.values():
        for op in function.operations:
            known = [n for n in op.scopes.get(ScopeSource.EXIR_DEBUG_HANDLE) or [] if n in named]
            if known:
                # Ops that were merged bear the numbers of all; the last is the one whose value is left.
                found.update({value.name: named[max(known)] for value in op.outputs})
    return found


def spread(origins: Mapping[str, Origins], signatures: Mapping[str, Signature]) -> dict[str, tuple[str, Origins]]:
    """Function of the artefact -> its entry point and origins; a lone function is called `main`."""
    functions = {
        function: (name, origins.get(name, {}))
        for name, signature in signatures.items()
        for function in ([bucket_name(name, n) for n in signature.buckets] or [name])
    }
    return {**functions, "main": next(iter(functions.values()))} if len(functions) == 1 else functions


def complete(
    traced: Mapping[str, tuple[str, Origins]], programs: Iterable[MilProgram]
) -> dict[str, tuple[str, Origins]]:
    """The same with an origin for every value in the packages that has one."""
    there = {name: function for program in programs for name, function in program.functions.items()}
    return {name: (entry, _complete(there.get(name), known)) for name, (entry, known) in traced.items()}


def _complete(function: MilFunction | None, known: Origins) -> Origins:
    """A value that was cast once more belongs to what it was before; one made anew, to the op that reads it."""
    found = dict(known)
    readers: dict[str, str] = {}
    for op in reversed(function.ops if function else ()):
        for value in op.outputs:
            plain = value.name
            while plain not in found and _CAST.search(plain):
                plain = _CAST.sub("", plain)
            own = found.get(plain) or readers.get(value.name)
            if own:
                found[value.name] = own
        made = [found[value.name] for value in op.outputs if value.name in found]
        if made:
            names = [o for operands in op.params.values() for o in operands if isinstance(o, str)]
            readers.update({name: made[0] for name in names})
    return found


def tell_sources(functions: Mapping[str, tuple[str, Origins]], places: Places) -> dict[str, dict[str, str]]:
    """Function -> name of a value -> the user's source line or layer."""
    return {
        function: {value: places[entry].get(node, "") for value, node in origins.items()}
        for function, (entry, origins) in functions.items()
    }
