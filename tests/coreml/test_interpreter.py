"""Whole models: converted by coremltools here, run in the interpreter, held against torch eager."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferrule.converters.coreml import interpreter
from ferrule.converters.coreml.mil import MilProgram
from ferrule.converters.coreml.ops import OPS
from ferrule.errors import InputError, LoweringError
from ferrule.sources.torchvision_ops import declare_torchvision_ops

with warnings.catch_warnings():
    # coremltools and transformers import optional parts, whose imports warn; nothing of ours is imported here
    warnings.simplefilter("ignore")
    declare_torchvision_ops()
    import coremltools as ct
    import coremltools.optimize as cto
    import torch
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import register_torch_op
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, ViTConfig, ViTModel

Array = np.ndarray[Any, np.dtype[Any]]


@register_torch_op(override=True)
def alias(context: Any, node: Any) -> None:
    context.add(mb.identity(x=_get_inputs(context, node, expected=1)[0], name=node.name))


class Mlp(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(32, 64), torch.nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> Any:
        return self.down(torch.nn.functional.gelu(self.up(x)))


class Bert(torch.nn.Module):
    def __init__(self, attention: str) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=99,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            attn_implementation=attention,
        )
        self.model = BertModel(config)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


class Vit(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = ViTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            image_size=16,
            patch_size=4,
            attn_implementation="eager",
        )
        self.model = ViTModel(config)

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.model(pixels).last_hidden_state


class Llama(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = LlamaConfig(
            vocab_size=99,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            use_cache=False,
            attn_implementation="eager",
        )
        self.model = LlamaForCausalLM(config)

    def forward(self, ids: torch.Tensor) -> Any:
        return self.model(input_ids=ids).logits


class Cached(torch.nn.Module):
    """One attention head that keeps its keys and values: a step reads all that went before."""

    def __init__(self, steps: int = 8, width: int = 16) -> None:
        super().__init__()
        self.q, self.k, self.v = (torch.nn.Linear(width, width) for _ in range(3))
        self.register_buffer("keys", torch.zeros(1, steps, width))
        self.register_buffer("values", torch.zeros(1, steps, width))

    def forward(self, x: torch.Tensor, place: torch.Tensor, mask: torch.Tensor) -> Any:
        self.keys.index_copy_(1, place, self.k(x))
        self.values.index_copy_(1, place, self.v(x))
        scores = self.q(x) @ self.keys.transpose(-1, -2) * 0.25 + mask
        return scores.softmax(-1) @ self.values


class WithTokenStep(torch.nn.Module):
    """The same weights, asked for the last position only: a second function of one program."""

    def __init__(self, whole: Mlp) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: torch.Tensor) -> Any:
        return self.whole(x[:, -1:])


@dataclass(frozen=True)
class Converted:
    module: torch.nn.Module
    program: MilProgram
    model: Any


def convert(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: list[Any],
    path: Path,
    half: bool,
    dims: Any = None,
    states: list[Any] | None = None,
    target: Any = ct.target.iOS17,
) -> Converted:
    """torch.export, decompositions without attention and linear, coremltools, save, load."""
    module.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolkits' own
        exported = torch.export.export(module, example, dynamic_shapes=dims)
        kept = ("scaled_dot", "aten.linear")
        table = torch.export.default_decompositions()
        chosen = {op: f for op, f in table.items() if not any(k in str(op) for k in kept)}
        model = ct.convert(
            exported.run_decompositions(chosen),
            inputs=inputs,
            states=states,
            minimum_deployment_target=target,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            skip_model_load=True,
        )
    model.save(str(path))
    return Converted(module, interpreter.load(path), model)


def only(outputs: dict[str, Array]) -> Array:
    (value,) = outputs.values()
    return value


def agree(made: Array, wanted: torch.Tensor, half: bool) -> None:
    truth = wanted.detach().numpy().astype(np.float64)
    assert made.shape == truth.shape
    found = made.astype(np.float64)
    if not half:
        assert np.abs(found - truth).max() < 1e-4
    assert float((found * truth).sum() / np.sqrt((found**2).sum() * (truth**2).sum())) > 0.9999


def integers(shape: tuple[int, ...], seed: int, top: int = 99) -> torch.Tensor:
    return torch.randint(0, top, shape, generator=torch.Generator().manual_seed(seed))


SEQUENCE = (1, ct.RangeDim(2, 32))
PRECISIONS = pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    torch.manual_seed(0)
    x = torch.randn(1, 5, 32)
    spec = [ct.TensorType(name="x", shape=x.shape, dtype=np.float32)]
    return convert(Mlp(), (x,), spec, tmp_path_factory.mktemp("mlp") / "m.mlpackage", half=True)


@PRECISIONS
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_bert_of_any_length(tmp_path: Path, attention: str, half: bool) -> None:
    torch.manual_seed(1)
    length = torch.export.Dim("length", min=2, max=32)
    specs = [ct.TensorType(name=n, shape=SEQUENCE, dtype=np.int32) for n in ("ids", "mask")]
    example = (integers((1, 16), 0), torch.ones(1, 16, dtype=torch.long))
    made = convert(
        Bert(attention),
        example,
        specs,
        tmp_path / "m.mlpackage",
        half,
        ({1: length}, {1: length}),
        target=ct.target.iOS18,
    )
    for size, padding in ((2, 0), (7, 0), (32, 5)):
        ids, mask = integers((1, size), size), torch.ones(1, size, dtype=torch.long)
        mask[:, size - padding :] = 0
        given = {"ids": ids.numpy().astype(np.int32), "mask": mask.numpy().astype(np.int32)}
        agree(only(interpreter.run(made.program, given)), made.module(ids, mask), half)


@PRECISIONS
def test_vit_with_patch_convolution(tmp_path: Path, half: bool) -> None:
    torch.manual_seed(2)
    pixels = torch.randn(2, 3, 16, 16)
    spec = [ct.TensorType(name="pixels", shape=pixels.shape, dtype=np.float32)]
    made = convert(Vit(), (pixels,), spec, tmp_path / "m.mlpackage", half)
    agree(only(interpreter.run(made.program, {"pixels": pixels.numpy()})), made.module(pixels), half)
    assert "conv" in {row.kind for row in interpreter.list_ops(made.program)}


@PRECISIONS
def test_llama_of_any_length(tmp_path: Path, half: bool) -> None:
    torch.manual_seed(3)
    length = torch.export.Dim("length", min=2, max=32)
    spec = [ct.TensorType(name="ids", shape=SEQUENCE, dtype=np.int32)]
    made = convert(Llama(), (integers((1, 9), 0),), spec, tmp_path / "m.mlpackage", half, ({1: length},))
    for size in (2, 9, 31):
        ids = integers((1, size), size)
        agree(only(interpreter.run(made.program, {"ids": ids.numpy().astype(np.int32)})), made.module(ids), half)


def test_states_are_kept_from_step_to_step(tmp_path: Path) -> None:
    torch.manual_seed(4)
    module, twin = Cached(), Cached()
    twin.load_state_dict(module.state_dict())
    example = (torch.randn(1, 1, 16), torch.tensor([0]), torch.zeros(1, 1, 8))
    specs = [
        ct.TensorType(name="x", shape=(1, 1, 16), dtype=np.float16),
        ct.TensorType(name="place", shape=(1,), dtype=np.int32),
        ct.TensorType(name="mask", shape=(1, 1, 8), dtype=np.float16),
    ]
    states = [ct.StateType(ct.TensorType(shape=(1, 8, 16), dtype=np.float16), name=n) for n in ("keys", "values")]
    made = convert(module, example, specs, tmp_path / "m.mlpackage", True, None, states, ct.target.iOS18)
    assert {s.name for s in made.program.functions["main"].states} == {"keys", "values"}
    kept: dict[str, Array] = {}
    for step in range(4):
        x = torch.randn(1, 1, 16, generator=torch.Generator().manual_seed(step)).half().float()
        mask = torch.where(torch.arange(8) <= step, 0.0, -torch.inf).reshape(1, 1, 8)
        given = {
            "x": x.numpy().astype(np.float16),
            "place": np.array([step], np.int32),
            "mask": mask.numpy().astype(np.float16),
        }
        before = {name: value.copy() for name, value in kept.items()}
        found = only(interpreter.run(made.program, given, state=kept))
        agree(found, twin(x, torch.tensor([step]), mask), half=True)
        # without the state the past is forgotten, and a state is only changed for the caller that gives it
        alone = only(interpreter.run(made.program, given, state=before))
        np.testing.assert_array_equal(alone, found)
        if step:
            assert np.abs(only(interpreter.run(made.program, given)) - found).max() > 1e-3
    agree(kept["keys"], twin.keys, half=True)
    with pytest.raises(InputError, match="FER-INP-041"):
        interpreter.run(made.program, given, state={"past": kept["keys"]})


CONFIGS = {
    "int8": lambda: cto.coreml.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0),
    "int8_with_zero_point": lambda: cto.coreml.OpLinearQuantizerConfig(mode="linear", weight_threshold=0),
    "int4_by_block": lambda: cto.coreml.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=16, weight_threshold=0
    ),
    "palette4": lambda: cto.coreml.OpPalettizerConfig(mode="uniform", nbits=4, weight_threshold=0),
    "palette2_by_group": lambda: cto.coreml.OpPalettizerConfig(
        mode="uniform", nbits=2, granularity="per_grouped_channel", group_size=8, weight_threshold=0
    ),
    "sparse": lambda: cto.coreml.OpMagnitudePrunerConfig(target_sparsity=0.6, weight_threshold=0),
}


@pytest.fixture(scope="module")
def mlp18(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    torch.manual_seed(0)
    x = torch.randn(1, 5, 32)
    spec = [ct.TensorType(name="x", shape=x.shape, dtype=np.float32)]
    path = tmp_path_factory.mktemp("mlp18") / "m.mlpackage"
    return convert(Mlp(), (x,), spec, path, half=True, target=ct.target.iOS18)


@pytest.mark.parametrize(
    ("opset", "name"),
    [("mlp18", name) for name in CONFIGS]
    + [("mlp", name) for name in CONFIGS if name not in ("int4_by_block", "palette2_by_group")],
)
def test_compressed_weights(request: pytest.FixtureRequest, tmp_path: Path, opset: str, name: str) -> None:
    source: Converted = request.getfixturevalue(opset)
    config = cto.coreml.OptimizationConfig(global_config=CONFIGS[name]())
    compress = {
        "p": cto.coreml.palettize_weights,
        "i": cto.coreml.linear_quantize_weights,
        "s": cto.coreml.prune_weights,
    }[name[0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coremltools' own
        small = compress(source.model, config)
        dense = cto.coreml.decompress_weights(small)
    small.save(str(tmp_path / "small.mlpackage"))
    dense.save(str(tmp_path / "dense.mlpackage"))
    program = interpreter.load(tmp_path / "small.mlpackage")
    x = {"x": np.random.default_rng(0).standard_normal((1, 5, 32)).astype(np.float32)}
    found = only(interpreter.run(program, x))
    wanted = only(interpreter.run(interpreter.load(tmp_path / "dense.mlpackage"), x))
    np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=2e-3)
    rows = [r for r in interpreter.list_ops(program) if r.kind == "linear"]
    plain = [r for r in interpreter.list_ops(source.program) if r.kind == "linear"]
    assert all(r.is_compressed and r.weights.startswith("constexpr_") for r in rows)
    assert not any(r.is_compressed for r in plain)
    assert [r.weight_bytes for r in plain] == [2 * (32 * 64 + 64), 2 * (32 * 64 + 32)]
    assert all(r.weight_bytes < p.weight_bytes for r, p in zip(rows, plain, strict=True))


def test_constants_agree_with_coremltools_reader(mlp: Converted) -> None:
    from coremltools.libmilstoragepython import _BlobStorageReader

    from ferrule.converters.coreml.constants import Stored

    ops = mlp.program.functions["main"].ops
    stored = [v for op in ops for values in op.params.values() for v in values if isinstance(v, Stored)]
    assert len(stored) >= 2
    for constant in stored:
        reader = _BlobStorageReader(str(constant.file))
        theirs = np.asarray(reader.read_fp16_data(constant.offset), np.uint16).view(np.float16)
        np.testing.assert_array_equal(constant.decode().reshape(-1), theirs)


def test_several_functions_share_their_weights(tmp_path: Path) -> None:
    torch.manual_seed(5)
    whole = Mlp()
    x = torch.randn(1, 5, 32)
    spec = [ct.TensorType(name="x", shape=x.shape, dtype=np.float32)]
    convert(whole, (x,), spec, tmp_path / "whole.mlpackage", True, target=ct.target.iOS18)
    convert(WithTokenStep(whole), (x,), spec, tmp_path / "last.mlpackage", True, target=ct.target.iOS18)
    described = ct.utils.MultiFunctionDescriptor()
    described.add_function(str(tmp_path / "whole.mlpackage"), "main", "prefill")
    described.add_function(str(tmp_path / "last.mlpackage"), "main", "decode")
    described.default_function_name = "prefill"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # coremltools' own
        ct.utils.save_multifunction(described, str(tmp_path / "both.mlpackage"))
    program = interpreter.load(tmp_path / "both.mlpackage")
    assert set(program.functions) == {"prefill", "decode"}
    given = {"x": x.numpy()}
    first = only(interpreter.run(program, given, "prefill"))
    last = only(interpreter.run(program, given, "decode"))
    agree(first, whole(x), half=True)
    np.testing.assert_allclose(last, first[:, -1:], rtol=1e-2, atol=1e-2)
    with pytest.raises(LoweringError, match="FER-MIL-003: .*'main'.*decode, prefill"):
        interpreter.run(program, given)


@pytest.fixture(scope="module")
def ranged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilProgram]:
    torch.manual_seed(6)
    length = torch.export.Dim("length", min=2, max=32)
    spec = [ct.TensorType(name="x", shape=(1, ct.RangeDim(2, 32), 32), dtype=np.float32)]
    path = tmp_path_factory.mktemp("ranged") / "m.mlpackage"
    yield convert(Mlp(), (torch.randn(1, 5, 32),), spec, path, False, ({1: length},)).program


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ({"y": np.zeros((1, 5, 32), np.float32)}, "FER-INP-041", r"\['x'\].*\['y'\]"),
        ({}, "FER-INP-041", r"\['x'\]"),
        ({"x": np.zeros((1, 5, 32))}, "FER-INP-042", "float64.*fp32"),
        ({"x": [1.0]}, "FER-INP-042", "list.*fp32"),
        ({"x": np.zeros((1, 5, 31), np.float32)}, "FER-INP-043", r"\[1, 5, 31\].*fp32\[1, \?, 32\]"),
        ({"x": np.zeros((5, 32), np.float32)}, "FER-INP-043", r"\[5, 32\]"),
        ({"x": np.zeros((1, 33, 32), np.float32)}, "FER-INP-043", "33 elements.*2 to 32"),
        ({"x": np.zeros((1, 1, 32), np.float32)}, "FER-INP-043", "1 elements.*2 to 32"),
    ],
)
def test_wrong_inputs_are_refused(ranged: MilProgram, given: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        interpreter.run(ranged, given)
    assert caught.value.code == code


def test_an_unknown_op_is_named_before_anything_runs(mlp: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(OPS, "gelu")
    # the input is wrong too: the ops are looked at first
    with pytest.raises(LoweringError, match=r"FER-MIL-001: .*gelu \(first at '.*' in function 'main'\)") as caught:
        interpreter.run(mlp.program, {})
    assert "linear" in caught.value.hint


def test_half_precision_results_repeat_to_the_bit(mlp: Converted) -> None:
    x = {"x": np.random.default_rng(1).standard_normal((1, 5, 32)).astype(np.float32)}
    first = only(interpreter.run(mlp.program, x))
    again = only(interpreter.run(interpreter.load(mlp.program.path), x))
    np.testing.assert_array_equal(first, again)
    assert first.flags.writeable and first.flags.owndata


@pytest.fixture
def package(mlp: Converted, tmp_path: Path) -> Path:
    return Path(shutil.copytree(mlp.program.path, tmp_path / "copy.mlpackage"))


def weight_file(package: Path) -> Path:
    return next(package.rglob("weight.bin"))


def test_damaged_packages_are_refused(package: Path, tmp_path: Path) -> None:
    x = {"x": np.zeros((1, 5, 32), np.float32)}
    with pytest.raises(LoweringError, match=r"FER-MIL-002: .*Manifest\.json"):
        interpreter.load(tmp_path / "nothing.mlpackage")
    whole = weight_file(package).read_bytes()
    weight_file(package).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LoweringError, match="FER-MIL-002: .*ends before"):
        interpreter.run(interpreter.load(package), x)
    weight_file(package).write_bytes(b"\0" * len(whole))
    with pytest.raises(LoweringError, match="FER-MIL-002: .*the record holds 0 bytes"):
        interpreter.run(interpreter.load(package), x)
    next(package.rglob("model.mlmodel")).write_bytes(b"not a protobuf")
    with pytest.raises(LoweringError, match="FER-MIL-002"):
        interpreter.load(package)


def test_a_package_cannot_reach_outside_itself(package: Path, tmp_path: Path) -> None:
    manifest = json.loads((package / "Manifest.json").read_text())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../elsewhere"
    (package / "Manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "elsewhere").write_bytes(b"")
    with pytest.raises(LoweringError, match="FER-MIL-002: .*elsewhere"):
        interpreter.load(package)
