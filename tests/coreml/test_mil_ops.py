"""MIL ops one by one: programs built op by op, run in the interpreter, held against numpy and torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import erf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.converters.coreml import interpreter
from ferrule.converters.coreml.constants import unpack
from ferrule.converters.coreml.mil import MilProgram
from ferrule.converters.coreml.ops import OPS
from ferrule.converters.coreml.ops.elementwise import erf_array
from ferrule.errors import LoweringError
from ferrule.sources.torchvision_ops import declare_torchvision_ops

with warnings.catch_warnings():
    # coremltools imports its optional converters, whose imports warn; nothing of ours is imported here
    warnings.simplefilter("ignore")
    declare_torchvision_ops()
    import coremltools as ct
    import torch
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.mil import types

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:coremltools", "ignore::UserWarning:coremltools")

Array = np.ndarray[Any, np.dtype[Any]]
Reference = Callable[[Array], Any]
RNG = np.random.default_rng(7)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
INTS = np.array([[-7, 5, 0], [3, -2, 9]], dtype=np.int32)


def save(body: Callable[..., Any], specs: list[Any], folder: Path, opset: Any) -> MilProgram:
    """A program of exactly these ops: no pass may rewrite them."""
    program = mb.program(input_specs=specs, opset_version=opset)(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ct.convert(
            program,
            convert_to="mlprogram",
            minimum_deployment_target=opset,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
    model.save(str(folder / "model.mlpackage"))
    return interpreter.load(folder / "model.mlpackage")


def as_output(var: Any, name: str) -> Any:
    """Outputs must be float or int32 arrays of rank one or more."""
    if var.dtype in (types.bool, types.int8, types.uint8, types.uint16):
        var = mb.cast(x=var, dtype="int32")
    if var.rank == 0:
        var = mb.expand_dims(x=var, axes=[0])
    return mb.identity(x=var, name=name)


def np_slice(*index: Any) -> Reference:
    return lambda x: x[index]


FULL = (True, True, True, True)
CASES: dict[str, tuple[Callable[[Any], Any], Reference]] = {
    "slice_negative_stride": (
        lambda x: mb.slice_by_index(
            x=x,
            begin=[0, 2, 0, 4],
            end=[0, 0, 0, 0],
            stride=[1, -1, 1, -2],
            begin_mask=[True, False, True, False],
            end_mask=[True, True, True, False],
        ),
        np_slice(slice(None), slice(2, None, -1), slice(None), slice(4, 0, -2)),
    ),
    "slice_reversed_by_masks": (
        lambda x: mb.slice_by_index(
            x=x, begin=[0] * 4, end=[0] * 4, stride=[1, 1, 1, -1], begin_mask=FULL, end_mask=FULL
        ),
        np_slice(..., slice(None, None, -1)),
    ),
    "slice_squeezed": (
        lambda x: mb.slice_by_index(
            x=x, begin=[1, -1, 1, -3], end=[0, 0, 3, -1], squeeze_mask=[True, True, False, False]
        ),
        np_slice(1, -1, slice(1, 3), slice(-3, -1)),
    ),
    "slice_beyond_end": (
        lambda x: mb.slice_by_index(x=x, begin=[0, 1, 0, 2], end=[9, 9, 2, 100]),
        np_slice(slice(0, 9), slice(1, 9), slice(0, 2), slice(2, 100)),
    ),
    "slice_by_size": (
        lambda x: mb.slice_by_size(x=x, begin=[0, -2, 1, 0], size=[1, 2, -1, 3]),
        np_slice(slice(0, 1), slice(1, 3), slice(1, None), slice(0, 3)),
    ),
    "reshape_zero_and_minus_one": (
        lambda x: mb.reshape(x=x, shape=[0, -1, 0, 1]),
        lambda x: x.reshape(2, 15, 4, 1),
    ),
    "expand_and_squeeze": (
        lambda x: mb.squeeze(x=mb.expand_dims(x=mb.reduce_sum(x=x, axes=[0]), axes=[0, -1]), axes=[0, 1]),
        lambda x: x.sum(0)[..., None],  # dimension 1 is longer than one: left alone
    ),
    "transpose_negative": (
        lambda x: mb.transpose(x=x, perm=[0, -1, 1, 2]),
        lambda x: x.transpose(0, 3, 1, 2),
    ),
    "concat_interleaved": (
        lambda x: mb.concat(values=[x, mb.mul(x=x, y=2.0)], axis=1, interleave=True),
        lambda x: np.stack([x, 2 * x], axis=2).reshape(2, 6, 4, 5),
    ),
    "stack_last": (lambda x: mb.stack(values=[x, x], axis=-1), lambda x: np.stack([x, x], -1)),
    "split_uneven": (lambda x: mb.split(x=x, split_sizes=[1, 4], axis=-1)[1], lambda x: x[..., 1:]),
    "split_even": (lambda x: mb.split(x=x, num_splits=2, axis=2)[1], lambda x: x[:, :, 2:]),
    "tile": (lambda x: mb.tile(x=x, reps=[1, 2, 1, 3]), lambda x: np.tile(x, (1, 2, 1, 3))),
    "band_part": (lambda x: mb.band_part(x=x, lower=1, upper=0), lambda x: np.tril(x) - np.tril(x, -2)),
    "pad_last_two_constant": (
        lambda x: mb.pad(x=x, pad=[1, 0, 2, 3], mode="constant", constant_val=1.5),
        lambda x: np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 3)], constant_values=1.5),
    ),
    "pad_reflect": (
        lambda x: mb.pad(x=x, pad=[2, 1, 3, 0], mode="reflect"),
        lambda x: np.pad(x, [(0, 0), (0, 0), (2, 1), (3, 0)], mode="reflect"),
    ),
    "pad_replicate": (
        lambda x: mb.pad(x=x, pad=[1, 1, 0, 2], mode="replicate"),
        lambda x: np.pad(x, [(0, 0), (0, 0), (1, 1), (0, 2)], mode="edge"),
    ),
    "cumsum_exclusive_reverse": (
        lambda x: mb.cumsum(x=x, axis=2, exclusive=True, reverse=True),
        lambda x: np.flip(np.cumsum(np.flip(x, 2), 2), 2) - x,
    ),
    "topk_ascending_values": (
        lambda x: mb.topk(x=x, k=2, axis=1, ascending=True)[0],
        lambda x: np.sort(x, axis=1)[:, :2],
    ),
    "topk_indices": (
        lambda x: mb.topk(x=x, k=3, axis=-1)[1],
        lambda x: np.argsort(-x, axis=-1, kind="stable")[..., :3],
    ),
    "argsort_descending": (
        lambda x: mb.argsort(x=x, axis=2),
        lambda x: np.argsort(-x, axis=2, kind="stable"),
    ),
    "argmax_kept": (
        lambda x: mb.reduce_argmax(x=x, axis=1, keep_dims=True),
        lambda x: x.argmax(axis=1, keepdims=True),
    ),
    "mean_of_all": (lambda x: mb.reduce_mean(x=x), lambda x: x.mean().reshape(1)),
    "log_sum_exp": (
        lambda x: mb.reduce_log_sum_exp(x=x, axes=[1, -1], keep_dims=False),
        lambda x: np.log(np.exp(x).sum(axis=(1, 3))),
    ),
    "l2_of_axes": (
        lambda x: mb.reduce_l2_norm(x=x, axes=[0, 2], keep_dims=True),
        lambda x: np.sqrt((x * x).sum(axis=(0, 2), keepdims=True)),
    ),
    "layer_norm_two_axes": (
        lambda x: mb.layer_norm(x=x, axes=[2, 3], gamma=X[0, 0], beta=X[0, 1], epsilon=1e-5),
        lambda x: torch.nn.functional.layer_norm(
            torch.tensor(x), (4, 5), torch.tensor(X[0, 0]), torch.tensor(X[0, 1])
        ).numpy(),
    ),
    "batch_norm": (
        lambda x: mb.batch_norm(x=x, mean=X[0, :, 0, 0], variance=np.abs(X[1, :, 0, 0]), gamma=X[0, :, 1, 1]),
        lambda x: torch.nn.functional.batch_norm(
            torch.tensor(x),
            torch.tensor(X[0, :, 0, 0].copy()),
            torch.tensor(np.abs(X[1, :, 0, 0])),
            torch.tensor(X[0, :, 1, 1].copy()),
        ).numpy(),
    ),
    "instance_norm": (
        lambda x: mb.instance_norm(x=x, epsilon=1e-5),
        lambda x: torch.nn.functional.instance_norm(torch.tensor(x)).numpy(),
    ),
    "l2_norm": (
        lambda x: mb.l2_norm(x=x, epsilon=1e-6),
        lambda x: x / np.sqrt((x * x).sum(axis=(1, 2, 3), keepdims=True) + 1e-6),
    ),
    "local_response_norm": (
        lambda x: mb.local_response_norm(x=x, size=3, alpha=0.1, beta=0.7, k=1.1),
        lambda x: torch.nn.functional.local_response_norm(torch.tensor(x), 3, 0.1, 0.7, 1.1).numpy(),
    ),
    "gelu_exact": (
        lambda x: mb.gelu(x=x, mode="EXACT"),
        lambda x: torch.nn.functional.gelu(torch.tensor(x)).numpy(),
    ),
    "gelu_tanh": (
        lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: torch.nn.functional.gelu(torch.tensor(x), approximate="tanh").numpy(),
    ),
    "gelu_sigmoid": (
        lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"),
        lambda x: x / (1 + np.exp(-1.702 * x)),
    ),
    "hard_swish_pieces": (
        lambda x: mb.mul(x=x, y=mb.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5)),
        lambda x: torch.nn.functional.hardswish(torch.tensor(x)).numpy(),
    ),
    "elu": (
        lambda x: mb.elu(x=x, alpha=0.7),
        lambda x: torch.nn.functional.elu(torch.tensor(x), 0.7).numpy(),
    ),
    "leaky_relu": (
        lambda x: mb.leaky_relu(x=x, alpha=0.1),
        lambda x: np.where(x < 0, np.float32(0.1) * x, x),
    ),
    "softplus": (lambda x: mb.softplus(x=x), lambda x: np.log1p(np.exp(x))),
    "prelu": (
        lambda x: mb.prelu(x=x, alpha=X[0, :, 0, 0]),
        lambda x: np.where(x > 0, x, X[0, :, 0, 0][:, None, None] * x),
    ),
    "rsqrt_of_zero_is_finite": (
        lambda x: mb.rsqrt(x=mb.mul(x=x, y=0.0), epsilon=1e-12),
        lambda x: np.full_like(x, 1e6),
    ),
    "log_default_epsilon": (
        lambda x: mb.log(x=mb.mul(x=x, y=0.0), epsilon=1e-45),
        lambda x: np.full_like(x, np.log(np.float32(1e-45))),
    ),
    "matmul_transposed_broadcast": (
        lambda x: mb.matmul(x=x, y=X[0, :1, :, :2], transpose_x=True),
        lambda x: x.swapaxes(-1, -2) @ X[0, :1, :, :2],
    ),
    "einsum": (
        lambda x: mb.einsum(values=[x, mb.transpose(x=x, perm=[0, 3, 2, 1])], equation="nchw,nwhu->nchu"),
        lambda x: np.einsum("nchw,nwhu->nchu", x, x.transpose(0, 3, 2, 1)),
    ),
    "one_hot": (
        lambda x: mb.one_hot(
            indices=mb.reduce_argmax(x=x, axis=-1), one_hot_vector_size=5, axis=1, on_value=2, off_value=-1
        ),
        lambda x: np.where(x.argmax(-1)[:, None] == np.arange(5)[:, None, None], 2, -1),
    ),
    "gather_batch_dims": (
        lambda x: mb.gather(x=x, indices=np.array([[0, 2], [2, 1]], np.int32), axis=1, batch_dims=1),
        lambda x: np.stack([x[0, [0, 2]], x[1, [2, 1]]]),
    ),
    "gather_matrix": (
        lambda x: mb.gather(x=x, indices=np.array([[0, 3], [1, 1]], np.int32), axis=-1),
        lambda x: x[..., np.array([[0, 3], [1, 1]])],
    ),
    "gather_nd": (
        lambda x: mb.gather_nd(x=x, indices=np.array([[1, 2], [0, 0]], np.int32)),
        lambda x: x[[1, 0], [2, 0]],
    ),
    "gather_nd_batched": (
        lambda x: mb.gather_nd(x=x, indices=np.array([[[2, 1]], [[0, 3]]], np.int32), batch_dims=1),
        lambda x: np.stack([x[0, [2], [1]], x[1, [0], [3]]]),
    ),
    "scatter_add_repeats": (
        lambda x: mb.scatter(
            data=x,
            indices=np.array([1, 1], np.int32),
            updates=X[:, :2],
            axis=1,
            mode="add",
            validate_indices=True,
        ),
        lambda x: np.concatenate([x[:, :1], x[:, 1:2] + X[:, :2].sum(1, keepdims=True), x[:, 2:]], axis=1),
    ),
    "scatter_along_axis_update": (
        lambda x: mb.scatter_along_axis(
            data=x,
            indices=np.full((2, 3, 4, 1), 3, np.int32),
            updates=X[..., :1],
            axis=3,
            mode="update",
            validate_indices=True,
        ),
        lambda x: np.concatenate([x[..., :3], X[..., :1], x[..., 4:]], axis=-1),
    ),
    "scatter_nd_max": (
        lambda x: mb.scatter_nd(data=x, indices=np.array([[0, 1]], np.int32), updates=X[1:, 0] * 3, mode="max"),
        lambda x: np.concatenate(
            [np.concatenate([x[:1, :1], np.maximum(x[:1, 1:2], X[1:, :1] * 3), x[:1, 2:]], 1), x[1:]]
        ),
    ),
    "pixel_shuffle": (
        lambda x: mb.pixel_shuffle(x=mb.tile(x=x, reps=[1, 4, 1, 1]), upscale_factor=2),
        lambda x: torch.pixel_shuffle(torch.tensor(np.tile(x, (1, 4, 1, 1))), 2).numpy(),
    ),
    "pixel_unshuffle": (
        lambda x: mb.pixel_unshuffle(x=mb.tile(x=x, reps=[1, 1, 1, 2]), downscale_factor=np.uint32(2)),
        lambda x: torch.pixel_unshuffle(torch.tensor(np.tile(x, (1, 1, 1, 2))), 2).numpy(),
    ),
    "upsample_bilinear": (
        lambda x: mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=3, align_corners=False),
        lambda x: torch.nn.functional.interpolate(
            torch.tensor(x), size=(8, 15), mode="bilinear", align_corners=False
        ).numpy(),
    ),
    "resize_bilinear_corners": (
        lambda x: mb.resize_bilinear(
            x=x, target_size_height=7, target_size_width=3, sampling_mode="STRICT_ALIGN_CORNERS"
        ),
        lambda x: torch.nn.functional.interpolate(
            torch.tensor(x), size=(7, 3), mode="bilinear", align_corners=True
        ).numpy(),
    ),
    "upsample_nearest": (
        lambda x: mb.upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=3),
        lambda x: x.repeat(2, axis=2).repeat(3, axis=3),
    ),
    "sliding_windows": (
        lambda x: mb.sliding_windows(x=x, axis=3, size=3, stride=2),
        lambda x: np.stack([x[..., :3], x[..., 2:]], 3),
    ),
    "quantize_and_back": (
        lambda x: mb.dequantize(
            input=mb.quantize(input=x, scale=0.05, zero_point=np.int8(3), output_dtype="int8"),
            scale=0.05,
            zero_point=np.int8(3),
        ),
        lambda x: (np.clip(np.rint(x / np.float32(0.05)) + 3, -128, 127) - 3) * np.float32(0.05),
    ),
    "quantize_by_channel": (
        lambda x: mb.cast(
            x=mb.quantize(input=x, scale=np.array([0.1, 0.2, 0.3], np.float32), output_dtype="int8", axis=1),
            dtype="int32",
        ),
        lambda x: np.rint(x / np.array([0.1, 0.2, 0.3], np.float32)[:, None, None]),
    ),
    "clip": (lambda x: mb.clip(x=x, alpha=-0.5, beta=0.25), lambda x: np.clip(x, -0.5, 0.25)),
    "round_half_to_even": (
        lambda x: mb.round(x=mb.add(x=mb.mul(x=x, y=0.0), y=2.5)),
        lambda x: np.full_like(x, 2.0),
    ),
    "select_broadcast": (
        lambda x: mb.select(cond=mb.greater(x=x, y=0.0), a=x, b=-1.0),
        lambda x: np.where(x > 0, x, np.float32(-1)),
    ),
    "fill_like_and_range": (
        lambda x: mb.add(x=mb.fill_like(ref_tensor=x, value=1.0), y=mb.range_1d(start=0.0, end=5.0, step=1.0)),
        lambda x: np.ones_like(x) + np.arange(5, dtype=np.float32),
    ),
    "shape": (lambda x: mb.shape(x=x), lambda x: np.array(x.shape)),
    "reverse": (lambda x: mb.reverse(x=x, axes=[-1, 0]), lambda x: np.flip(x, (0, 3))),
}


@pytest.fixture(scope="module")
def single_ops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    def body(x: Any) -> Any:
        return tuple(as_output(make(x), name) for name, (make, _) in CASES.items())

    specs = [mb.TensorSpec(X.shape, dtype=types.fp32)]
    program = save(body, specs, tmp_path_factory.mktemp("ops"), ct.target.iOS17)
    return interpreter.run(program, {"x": X})


@pytest.mark.parametrize("name", CASES)
def test_op_agrees_with_its_reference(single_ops: dict[str, Array], name: str) -> None:
    wanted = np.asarray(CASES[name][1](X))
    assert single_ops[name].shape == wanted.shape
    np.testing.assert_allclose(single_ops[name], wanted, rtol=2e-5, atol=2e-6)


def conv(**options: Any) -> Any:
    return lambda x: mb.conv(x=x, **options)


W_DENSE, W_GROUPED, W_DEPTH = (
    RNG.standard_normal(s).astype(np.float32) for s in ((5, 4, 3, 2), (6, 2, 3, 3), (8, 1, 3, 3))
)
W_UP = RNG.standard_normal((4, 3, 3, 2)).astype(np.float32)
BIAS = RNG.standard_normal(5).astype(np.float32)
IMAGE = RNG.standard_normal((2, 4, 9, 8)).astype(np.float32)
F = torch.nn.functional


def tensor(a: Array) -> Any:
    return torch.tensor(a)


SPATIAL: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "conv_strided_padded": (
        conv(weight=W_DENSE, bias=BIAS, strides=[2, 1], pad_type="custom", pad=[1, 0, 2, 1]),
        lambda x: F.conv2d(F.pad(x, (2, 1, 1, 0)), tensor(W_DENSE), tensor(BIAS), stride=(2, 1)),
    ),
    "conv_dilated_groups": (
        conv(weight=W_GROUPED, groups=2, dilations=[2, 3], pad_type="valid"),
        lambda x: F.conv2d(x, tensor(W_GROUPED), groups=2, dilation=(2, 3)),
    ),
    "conv_depthwise_same": (
        conv(weight=W_DEPTH, groups=4, pad_type="same"),
        lambda x: F.conv2d(x, tensor(W_DEPTH), groups=4, padding=1),
    ),
    "conv_same_even_kernel": (
        conv(weight=W_DENSE, pad_type="same"),
        lambda x: F.conv2d(F.pad(x, (0, 1, 1, 1)), tensor(W_DENSE)),
    ),
    "conv_same_lower": (
        conv(weight=W_DENSE, pad_type="same_lower"),
        lambda x: F.conv2d(F.pad(x, (1, 0, 1, 1)), tensor(W_DENSE)),
    ),
    "conv_transpose": (
        lambda x: mb.conv_transpose(
            x=x, weight=W_UP, strides=[2, 3], pad_type="custom", pad=[1, 1, 0, 0], dilations=[1, 2]
        ),
        lambda x: F.conv_transpose2d(x, tensor(W_UP), stride=(2, 3), padding=(1, 0), dilation=(1, 2)),
    ),
    "conv_transpose_groups": (
        lambda x: mb.conv_transpose(x=x, weight=W_UP, groups=2, pad_type="valid"),
        lambda x: F.conv_transpose2d(x, tensor(W_UP), groups=2),
    ),
    "max_pool": (
        lambda x: mb.max_pool(x=x, kernel_sizes=[3, 2], strides=[2, 2], pad_type="custom", pad=[1, 1, 0, 0]),
        lambda x: F.max_pool2d(x, (3, 2), 2, (1, 0)),
    ),
    "max_pool_ceil": (
        lambda x: mb.max_pool(x=x, kernel_sizes=[2, 3], strides=[2, 2], pad_type="valid", ceil_mode=True),
        lambda x: F.max_pool2d(x, (2, 3), 2, ceil_mode=True),
    ),
    "avg_pool_counts_padding": (
        lambda x: mb.avg_pool(x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=[1, 1, 1, 1]),
        lambda x: F.avg_pool2d(x, 3, 2, 1),
    ),
    "avg_pool_excludes_padding": (
        lambda x: mb.avg_pool(
            x=x,
            kernel_sizes=[3, 3],
            strides=[2, 2],
            pad_type="custom",
            pad=[1, 1, 1, 1],
            exclude_padding_from_average=True,
        ),
        lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    ),
    "avg_pool_ceil": (
        lambda x: mb.avg_pool(
            x=x, kernel_sizes=[3, 3], strides=[3, 3], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True
        ),
        lambda x: F.avg_pool2d(x, 3, 3, 1, ceil_mode=True),
    ),
    "conv_1d": (
        lambda x: mb.conv(
            x=mb.reshape(x=x, shape=[2, 4, 72]), weight=W_DENSE[:, :, :, 0], strides=[5], pad_type="valid"
        ),
        lambda x: F.conv1d(x.reshape(2, 4, 72), tensor(W_DENSE[:, :, :, 0].copy()), stride=5),
    ),
    "conv_3d": (
        lambda x: mb.conv(
            x=mb.reshape(x=x, shape=[2, 4, 3, 3, 8]), weight=W_GROUPED[:, :, None], groups=2, pad_type="valid"
        ),
        lambda x: F.conv3d(x.reshape(2, 4, 3, 3, 8), tensor(W_GROUPED[:, :, None]), groups=2),
    ),
}


@pytest.fixture(scope="module")
def spatial_ops(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    def body(x: Any) -> Any:
        return tuple(as_output(make(x), name) for name, (make, _) in SPATIAL.items())

    specs = [mb.TensorSpec(IMAGE.shape, dtype=types.fp32)]
    program = save(body, specs, tmp_path_factory.mktemp("spatial"), ct.target.iOS17)
    return interpreter.run(program, {"x": IMAGE})


@pytest.mark.parametrize("name", SPATIAL)
def test_convolution_and_pooling_agree_with_torch(spatial_ops: dict[str, Array], name: str) -> None:
    wanted = SPATIAL[name][1](tensor(IMAGE)).numpy()
    np.testing.assert_allclose(spatial_ops[name], wanted, rtol=1e-4, atol=2e-5)


def test_integers_divide_and_wrap_as_mil_says(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        made = {
            "floor_div": mb.floor_div(x=x, y=np.int32(3)),
            "mod": mb.mod(x=x, y=np.int32(-4)),
            "real_div": mb.real_div(x=x, y=np.int32(2)),
            "wrapped": mb.mul(x=x, y=np.int32(2**30)),
            "power": mb.pow(x=x, y=np.int32(3)),
            "larger": mb.cast(x=mb.greater_equal(x=x, y=np.int32(3)), dtype="int32"),
            "either": mb.cast(
                x=mb.logical_xor(x=mb.cast(x=x, dtype="bool"), y=mb.less(x=x, y=np.int32(0))), dtype="int32"
            ),
        }
        return tuple(mb.identity(x=v, name=k) for k, v in made.items())

    program = save(body, [mb.TensorSpec(INTS.shape, dtype=types.int32)], tmp_path, ct.target.iOS17)
    made = interpreter.run(program, {"x": INTS})
    assert all(v.dtype == np.int32 for v in made.values())
    np.testing.assert_array_equal(made["floor_div"], INTS // 3)
    np.testing.assert_array_equal(made["mod"], INTS % -4)
    np.testing.assert_array_equal(made["real_div"], np.trunc(INTS / 2))
    np.testing.assert_array_equal(made["wrapped"], (INTS.astype(np.int64) * 2**30).astype(np.int32))
    np.testing.assert_array_equal(made["power"], INTS**3)
    np.testing.assert_array_equal(made["larger"], INTS >= 3)
    np.testing.assert_array_equal(made["either"], (INTS != 0) ^ (INTS < 0))


def test_half_precision_rounds_at_every_op_and_keeps_infinities(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        half = mb.cast(x=x, dtype="fp16")
        made = {
            "sum": mb.add(x=half, y=np.float16(2048.0)),
            "overflow": mb.mul(x=half, y=np.float16(60000.0)),
            "masked": mb.softmax(x=mb.add(x=half, y=np.array([0, -np.inf, -65504], np.float16)), axis=-1),
            "undefined": mb.sub(x=mb.mul(x=half, y=np.float16(np.inf)), y=np.float16(np.inf)),
        }
        return tuple(mb.cast(x=v, dtype="fp32", name=k) for k, v in made.items())

    program = save(body, [mb.TensorSpec((1, 3), dtype=types.fp32)], tmp_path, ct.target.iOS17)
    made = interpreter.run(program, {"x": np.array([[1.0, 3.0, 5.0]], np.float32)})
    # 2049 and 2051 are not half-precision numbers: ties go to the even neighbour
    np.testing.assert_array_equal(made["sum"], [[2048.0, 2052.0, 2052.0]])
    np.testing.assert_array_equal(made["overflow"], [[60000.0, np.inf, np.inf]])
    np.testing.assert_array_equal(made["masked"], [[1.0, 0.0, 0.0]])
    assert np.isnan(made["undefined"]).all()


def test_gather_counts_from_the_end_only_before_ios17(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        return mb.gather(x=np.arange(5, dtype=np.float32), indices=x, axis=0, name="picked")

    specs = [mb.TensorSpec((3,), dtype=types.int32)]
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = save(body, specs, tmp_path / "old", ct.target.iOS16)
    new = save(body, specs, tmp_path / "new", ct.target.iOS17)
    index = np.array([-1, 0, -5], np.int32)
    np.testing.assert_array_equal(interpreter.run(old, {"x": index})["picked"], [4, 0, 0])
    with pytest.raises(LoweringError, match=r"FER-MIL-004: Op 'picked' \(gather\).*indices"):
        interpreter.run(new, {"x": index})
    with pytest.raises(LoweringError, match="FER-MIL-004"):
        interpreter.run(old, {"x": np.array([0, 5, 1], np.int32)})


def test_attention_agrees_with_torch(tmp_path: Path) -> None:
    q, k, v = (RNG.standard_normal((1, 2, n, 8)).astype(np.float32) for n in (3, 5, 5))
    keep = np.tril(np.ones((3, 5), np.bool_), 1)

    def body(q: Any, k: Any, v: Any) -> Any:
        masked = mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=keep)
        added = mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=X[0, 0, :3, :5])
        return mb.identity(x=masked, name="masked"), mb.identity(x=added, name="added")

    specs = [mb.TensorSpec(a.shape, dtype=types.fp32) for a in (q, k, v)]
    made = interpreter.run(save(body, specs, tmp_path, ct.target.iOS18), {"q": q, "k": k, "v": v})
    for name, mask in (("masked", keep), ("added", X[0, 0, :3, :5])):
        wanted = F.scaled_dot_product_attention(tensor(q), tensor(k), tensor(v), tensor(mask)).numpy()
        np.testing.assert_allclose(made[name], wanted, rtol=1e-5, atol=1e-6)


CODES = RNG.integers(-8, 8, (6, 8)).astype(np.int8)
SCALE = RNG.uniform(0.01, 0.1, (6, 4)).astype(np.float16)


def compressed() -> dict[str, tuple[Any, Array]]:
    """Compressed constants of iOS 18 with the values that their definition gives, computed here in float64."""
    wide, by_block = CODES.astype(np.float64), np.repeat(SCALE.astype(np.float64), 2, axis=1)
    offset = RNG.integers(-8, 8, (6, 4)).astype(np.int8)
    unsigned = (CODES + 8).astype(np.uint8)
    lut = RNG.standard_normal((2, 1, 16, 1)).astype(np.float16)
    groups = np.repeat(np.arange(2), 3)[:, None]
    vectors = RNG.standard_normal((1, 1, 4, 2)).astype(np.float16)
    pairs = RNG.integers(0, 4, (6, 8)).astype(np.uint8)
    mask = (RNG.random((6, 8)) < 0.4).astype(np.uint8)
    kept = RNG.standard_normal(int(mask.sum())).astype(np.float16)
    sparse = np.zeros((6, 8))
    sparse[mask == 1] = kept
    three = RNG.integers(0, 8, (6, 8)).astype(np.uint8)
    lut3 = RNG.standard_normal((1, 1, 8, 1)).astype(np.float16)
    return {
        "int8_by_block": (mb.constexpr_blockwise_shift_scale(data=CODES, scale=SCALE), wide * by_block),
        "int4_by_block": (
            mb.constexpr_blockwise_shift_scale(data=CODES.astype(types.np_int4_dtype), scale=SCALE),
            wide * by_block,
        ),
        "int4_with_offset": (
            mb.constexpr_blockwise_shift_scale(
                data=CODES.astype(types.np_int4_dtype), scale=SCALE, offset=offset.astype(types.np_int4_dtype)
            ),
            (wide - np.repeat(offset, 2, axis=1)) * by_block,
        ),
        "uint4_with_offset": (
            mb.constexpr_blockwise_shift_scale(
                data=unsigned.astype(types.np_uint4_dtype),
                scale=SCALE,
                offset=np.full((6, 4), 8, np.uint8).astype(types.np_uint4_dtype),
            ),
            wide * by_block,
        ),
        "palette_by_group": (
            mb.constexpr_lut_to_dense(indices=unsigned.astype(types.np_uint4_dtype), lut=lut),
            lut[groups, 0, unsigned, 0],
        ),
        "palette_of_three_bits": (
            mb.constexpr_lut_to_dense(indices=three.astype(types.np_uint3_dtype), lut=lut3),
            lut3[0, 0, three, 0],
        ),
        "palette_of_vectors": (
            mb.constexpr_lut_to_dense(
                indices=pairs[:3].astype(types.np_uint2_dtype), lut=vectors, vector_axis=np.int32(0)
            ),
            vectors[0, 0, pairs[:3]].transpose(0, 2, 1).reshape(6, 8),
        ),
        "sparse": (
            mb.constexpr_sparse_to_dense(nonzero_data=kept, mask=mask.astype(types.np_uint1_dtype)),
            sparse,
        ),
    }


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Array, Array]]:
    wanted: dict[str, Array] = {}

    def body(x: Any) -> Any:
        outputs = []
        for name, (var, value) in compressed().items():
            wanted[name] = np.asarray(value, np.float64)
            outputs.append(mb.cast(x=mb.add(x=x, y=var), dtype="fp32", name=name))
        return tuple(outputs)

    # a dynamic operand keeps the constants from being folded
    specs = [mb.TensorSpec((6, 8), dtype=types.fp16)]
    program = save(body, specs, tmp_path_factory.mktemp("constexpr"), ct.target.iOS18)
    made = interpreter.run(program, {"x": np.zeros((6, 8), np.float16)})
    kinds = {op.kind for op in program.functions["main"].ops}
    assert {"constexpr_blockwise_shift_scale", "constexpr_lut_to_dense", "constexpr_sparse_to_dense"} <= kinds
    return {name: (made[name], wanted[name]) for name in wanted}


@pytest.mark.parametrize(
    "name",
    [
        "int8_by_block",
        "int4_by_block",
        "int4_with_offset",
        "uint4_with_offset",
        "palette_by_group",
        "palette_of_three_bits",
        "palette_of_vectors",
        "sparse",
    ],
)
def test_compressed_constants_decode_to_their_definition(decoded: dict[str, tuple[Array, Array]], name: str) -> None:
    made, wanted = decoded[name]
    np.testing.assert_array_equal(made, wanted.astype(np.float16).astype(np.float32))


def test_compressed_constants_of_ios16_decode(tmp_path: Path) -> None:
    scale, zero = RNG.uniform(0.01, 0.1, 6).astype(np.float16), RNG.integers(-8, 8, 6).astype(np.int8)
    lut, indices = RNG.standard_normal(4).astype(np.float16), RNG.integers(0, 4, (6, 7)).astype(np.uint8)
    packed = np.packbits(
        ((indices.reshape(-1)[:, None] >> np.arange(2)) & 1).astype(np.uint8).reshape(-1), bitorder="little"
    )
    mask = RNG.random((6, 7)) < 0.5
    kept = RNG.standard_normal(int(mask.sum())).astype(np.float16)
    sparse = np.zeros((6, 7), np.float16)
    sparse[mask] = kept

    def body(x: Any) -> Any:
        made = {
            "affine": mb.constexpr_affine_dequantize(
                quantized_data=CODES[:, :7], zero_point=zero, scale=scale, axis=np.int32(0)
            ),
            "palette": mb.constexpr_lut_to_dense(indices=packed, lut=lut, shape=np.array([6, 7], np.uint32)),
            "sparse": mb.constexpr_sparse_to_dense(
                nonzero_data=kept,
                mask=np.packbits(mask.reshape(-1), bitorder="little"),
                shape=np.array([6, 7], np.uint32),
            ),
        }
        return tuple(mb.cast(x=mb.add(x=x, y=v), dtype="fp32", name=k) for k, v in made.items())

    program = save(body, [mb.TensorSpec((6, 7), dtype=types.fp16)], tmp_path, ct.target.iOS16)
    made = interpreter.run(program, {"x": np.zeros((6, 7), np.float16)})
    affine = (CODES[:, :7].astype(np.float64) - zero[:, None]) * scale.astype(np.float64)[:, None]
    np.testing.assert_array_equal(made["affine"], affine.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(made["palette"], lut[indices].astype(np.float32))
    np.testing.assert_array_equal(made["sparse"], sparse.astype(np.float32))


def test_packed_codes_are_read_from_the_lowest_bit() -> None:
    data = np.array([0b11100100, 0b00000001], np.uint8)
    assert unpack(data, 2, 5).tolist() == [0, 1, 2, 3, 1]
    assert unpack(data, 4, 3, signed=True).tolist() == [4, -2, 1]
    assert unpack(data, 3, 4).tolist() == [4, 4, 7, 0]
    assert unpack(data, 6, 2).tolist() == [36, 7]


def test_erf_is_exact_to_its_precision() -> None:
    x = np.concatenate([np.linspace(-8, 8, 20001), [0.0, -0.0, np.inf, -np.inf]])
    wanted = np.array([erf(v) for v in x])
    assert np.abs(erf_array(x) - wanted).max() < 2e-9
    assert np.abs(erf_array(x.astype(np.float32)) - wanted).max() < 2e-7
    assert np.isnan(erf_array(np.array([np.nan]))).all()


def test_every_op_stands_in_one_family_only() -> None:
    from ferrule.converters.coreml import ops

    families = [m for m in vars(ops).values() if hasattr(m, "OPS") and hasattr(m, "__file__")]
    assert sum(len(m.OPS) for m in families) == len(OPS)


def test_a_select_that_declares_the_wrong_shape_is_told(tmp_path: Path) -> None:
    def body(x: Any) -> Any:
        chosen = mb.select(cond=mb.greater(x=x, y=0.0), a=1.0, b=-1.0, name="chosen")
        sound = mb.select(cond=mb.greater(x=x, y=0.0), a=x, b=0.0, name="sound")
        return mb.add(x=mb.mul(x=x, y=chosen), y=sound, name="made")

    program = save(body, [mb.TensorSpec((2, 3), dtype=types.fp32)], tmp_path, ct.target.iOS17)
    ((name, why),) = interpreter.list_misdeclared(program)
    assert name == "chosen"
    assert why == "select by cond of bool[2, 3] declares fp32[]"
    # by MIL's definition all three broadcast
    x = np.ascontiguousarray(X[0, :2, 0, :3])
    made = interpreter.run(program, {"x": x})["made"]
    np.testing.assert_array_equal(made, np.abs(x) + np.maximum(x, 0))
