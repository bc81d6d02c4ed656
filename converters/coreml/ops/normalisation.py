"""Normalisation and activation ops, softmax included. All of them compute in fp32."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from ferrule.converters.coreml.ops.call import Array, Call, OpFunction, axes_of, widen
from ferrule.converters.coreml.ops.elementwise import erf_array

__all__ = ["OPS", "softmax_array"]


def softmax_array(x: Array, axis: int) -> Array:
    """Softmax along one axis, shifted by the largest element; a row of -inf alone gives NaN."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    result: Array = powers / powers.sum(axis=axis, keepdims=True)
    return result


def _sigmoid(x: Array) -> Array:
    result: Array = np.float32(1.0) / (np.float32(1.0) + np.exp(-x))
    return result


def _activation(function: Any) -> OpFunction:
    def apply(call: Call, x: Array, **constants: Array) -> Any:
        return function(widen(x), **{k: widen(v) for k, v in constants.items()})

    return apply


def _softmax(call: Call, x: Array, axis: Any = -1) -> Any:
    return softmax_array(widen(x), int(axis))


def _gelu(call: Call, x: Array, mode: str = "EXACT") -> Any:
    wide = widen(x)
    if mode == "TANH_APPROXIMATION":
        return 0.5 * wide * (1.0 + np.tanh(sqrt(2.0 / pi) * (wide + 0.044715 * wide * wide * wide)))
    if mode == "SIGMOID_APPROXIMATION":
        return wide * _sigmoid(np.float32(1.702) * wide)
    if mode == "EXACT":
        return 0.5 * wide * (1.0 + erf_array(wide * np.float32(sqrt(0.5))))
    raise ValueError(f"gelu has no mode '{mode}'")


def _softplus(x: Array) -> Array:
    result: Array = np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)
    return result


def _by_channel(v: Array, x: Array) -> Array:
    """A vector over dimension 1, shaped to broadcast against x."""
    return v.reshape(-1, *[1] * (x.ndim - 2)) if v.ndim else v


def _layer_norm(
    call: Call,
    x: Array,
    axes: Any = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Any = 1e-5,
) -> Any:
    over = axes_of(axes, x.ndim)
    result = _standardise(widen(x), over, epsilon)
    shape = [n if i in over else 1 for i, n in enumerate(x.shape)]
    if gamma is not None:
        result = result * widen(gamma).reshape(shape)
    return result if beta is None else result + widen(beta).reshape(shape)


def _standardise(x: Array, over: tuple[int, ...], epsilon: Any) -> Array:
    centred = x - x.mean(axis=over, keepdims=True)
    spread = np.square(centred).mean(axis=over, keepdims=True)
    result: Array = centred / np.sqrt(spread + np.float32(epsilon))
    return result


def _batch_norm(
    call: Call,
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Any = 1e-5,
) -> Any:
    scale = 1.0 / np.sqrt(widen(variance) + np.float32(epsilon))
    if gamma is not None:
        scale = scale * widen(gamma)
    result = (widen(x) - _by_channel(widen(mean), x)) * _by_channel(scale, x)
    return result if beta is None else result + _by_channel(widen(beta), x)


def _instance_norm(
    call: Call, x: Array, gamma: Array | None = None, beta: Array | None = None, epsilon: Any = 1e-5
) -> Any:
    result = _standardise(widen(x), tuple(range(2, x.ndim)), epsilon)
    if gamma is not None:
        result = result * _by_channel(widen(gamma), x)
    return result if beta is None else result + _by_channel(widen(beta), x)


def _l2_norm(call: Call, x: Array, epsilon: Any = 1e-6) -> Any:
    wide = widen(x)
    total = np.square(wide).sum(axis=(-3, -2, -1), keepdims=True)
    return wide / np.sqrt(total + np.float32(epsilon))


def _local_response_norm(call: Call, x: Array, size: Any, alpha: Any = 1e-4, beta: Any = 0.75, k: Any = 1.0) -> Any:
    wide, width = widen(x), int(size)
    before = (width - 1) // 2
    pads = [(0, 0), (before, width - 1 - before)] + [(0, 0)] * (x.ndim - 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(np.square(wide), pads), width, axis=1)
    return wide / np.power(np.float32(k) + np.float32(alpha) / width * windows.sum(axis=-1), np.float32(beta))


OPS: dict[str, OpFunction] = {
    "softmax": _softmax,
    "gelu": _gelu,
    "relu": _activation(lambda x: np.maximum(x, 0)),
    "relu6": _activation(lambda x: np.minimum(np.maximum(x, 0), 6)),
    "leaky_relu": _activation(lambda x, alpha: np.where(x < 0, alpha * x, x)),
    "elu": _activation(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))),
    "sigmoid": _activation(_sigmoid),
    "silu": _activation(lambda x: x * _sigmoid(x)),
    "softplus": _activation(_softplus),
    "softsign": _activation(lambda x: x / (1 + np.abs(x))),
    "clamped_relu": _activation(lambda x, alpha, beta: np.minimum(beta, np.where(x >= 0, x, alpha * x))),
    "linear_activation": _activation(lambda x, alpha, beta: alpha * x + beta),
    "prelu": _activation(lambda x, alpha: np.where(x > 0, x, _by_channel(alpha, x) * x)),
    "scaled_tanh": _activation(lambda x, alpha, beta: alpha * np.tanh(beta * x)),
    "sigmoid_hard": _activation(lambda x, alpha, beta: np.minimum(np.maximum(alpha * x + beta, 0), 1)),
    "softplus_parametric": _activation(
        lambda x, alpha, beta: _by_channel(alpha, x) * _softplus(_by_channel(beta, x) * x)
    ),
    "thresholded_relu": _activation(lambda x, alpha: np.where(x >= alpha, x, 0)),
    "layer_norm": _layer_norm,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "l2_norm": _l2_norm,
    "local_response_norm": _local_response_norm,
}
