"""States: tensors that a program keeps from one prediction to the next."""

from __future__ import annotations

from typing import Any

from ferrule.converters.coreml.ops.call import Array, Call, OpFunction

__all__ = ["OPS"]


def _read(call: Call, input: str) -> Any:  # the parameter's name is MIL's
    return call.state[input]


def _write(call: Call, input: str, data: Array) -> tuple[()]:
    # replaced, never changed in place: values read earlier keep what they held
    call.state[input] = data
    return ()


def _update(call: Call, state: str, value: Array) -> Any:
    call.state[state] = value
    return value


OPS: dict[str, OpFunction] = {"read_state": _read, "write_state": _write, "coreml_update_state": _update}
