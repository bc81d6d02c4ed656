"""What holds for every technique of the catalogue, and what each one does to a small model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from ferrule.catalog import TECHNIQUES
from ferrule.codec import Affine, Lookup, decode
from ferrule.coded import ACTIVATION_DYNAMIC, ACTIVATION_NONE, CodedConv, CodedEmbedding, CodedLinear
from ferrule.errors import InputError, ModelError, RecipeError
from ferrule.flow import compress
from ferrule.model import EntryPoint, Model, as_model, capture
from ferrule.policy import Forward
from ferrule.proof import answer

ROWS = sorted(TECHNIQUES)
LINEAR = ["lut", "w4g32", "w8", "w8a8", "w8a8-static"]
HISTORY = {"lut": "lut4"}  # the number belongs to the name
OTHER_OPTIONS = {
    "conv8": {"method": "percentile", "percentile": 99, "layers": ["first"], "skip": ["head"]},
    "emb8": {"min_rows": 16, "layers": ["table*"], "skip": ["other*"]},
    "lut": {"bits": 6, "group": 4, "scaled": True, "layers": ["first"], "skip": ["head"]},
    "tome": {"r": 2, "ratio": 0.25, "schedule": "decreasing", "prop_attn": False},
    "w4g32": {"rounding": "rtn", "activations": "none", "layers": ["f*"], "skip": ["head"]},
    "w8": {"layers": ["a*"], "skip": ["head", "tied.*"]},
    "w8a8": {"layers": ["first"], "skip": ["head"]},
    "w8a8-static": {"method": "percentile", "percentile": 99, "layers": ["first"], "skip": ["head"]},
}


class Small(nn.Module):
    """A table, two linear layers that are one, a head, and a convolution that no technique touches."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2048, 64)
        self.first = nn.Linear(64, 64)
        self.again = self.first
        self.norm = nn.LayerNorm(64)
        self.conv = nn.Conv1d(64, 64, 1)
        self.head = nn.Linear(64, 8, bias=False)

    def forward(self, ids: Tensor, weight: Tensor) -> Tensor:
        x = self.table(ids) * weight[..., None]
        x = self.norm(x + torch.relu(self.again(torch.relu(self.first(x)))))
        y: Tensor = self.head(x + self.conv(x.transpose(1, 2)).transpose(1, 2))
        return y


@pytest.fixture
def small() -> Model:
    torch.manual_seed(3)
    inputs = {"ids": torch.arange(24).view(2, 12) * 85, "weight": torch.rand(2, 12) + 0.5}
    return as_model(Small(), inputs)


class Encoder(nn.Module):
    """Two transformer blocks over a row of vectors, for techniques that act on tokens."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.conv = nn.Conv1d(32, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.encoder(x).transpose(1, 2))
        return y


class Pictures(nn.Module):
    """Convolutions of pictures, two of which are one, with a batch norm and a residual, and one of a signal."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.again = self.first
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 16, 3, stride=2, groups=2)
        self.conv = nn.Conv1d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm(self.again(torch.relu(self.first(x))))
        y: Tensor = self.conv(self.head(x).flatten(2))
        return y


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Model:
    """The small model that the technique under test acts on."""
    name = request.node.callspec.params["name"]
    if TECHNIQUES[name].kind != "tokens" and name != "conv8":
        model: Model = request.getfixturevalue("small")
        return model
    torch.manual_seed(3)
    if name == "conv8":
        return as_model(Pictures().eval(), (torch.randn(2, 8, 12, 12),))
    # Neighbours alike, as in pictures: what is merged there is worth merging.
    x = torch.randn(2, 12, 32).repeat_interleave(4, 1) + 0.1 * torch.randn(2, 48, 32)
    return as_model(Encoder().eval(), (x,))


def module_of(model: Model) -> nn.Module:
    return model.entry_points["forward"].module


def run(model: Model, name: str, data: list[Mapping[str, Tensor]] | None = None, **options: object) -> Model:
    row = TECHNIQUES[name]
    if row.needs_data and data is None:
        data = [model.entry_points[model.policy.entry_point].inputs]
    return row.function()(model, row.read_options(options), data)


@pytest.mark.parametrize("name", ROWS)
def test_options_are_frozen_and_survive_json(name: str) -> None:
    row = TECHNIQUES[name]
    options = row.options_type()()
    assert is_dataclass(options) and row.read_options({}) == options
    with pytest.raises(AttributeError):
        setattr(options, fields(options)[0].name, None)
    for given in ({}, OTHER_OPTIONS[name]):
        read = row.read_options(given)
        assert row.read_options(json.loads(json.dumps(asdict(read)))) == read
    changed = row.read_options(OTHER_OPTIONS[name])
    assert set(OTHER_OPTIONS[name]) == {f.name for f in fields(options)}
    assert all(getattr(changed, f.name) != getattr(options, f.name) for f in fields(options))


@pytest.mark.parametrize("name", ROWS)
def test_the_model_given_is_not_changed(name: str, subject: Model) -> None:
    module = module_of(subject)
    structure = [(n, type(m), id(m), m.training) for n, m in module.named_modules(remove_duplicate=False)]
    weights = {n: (id(p), p.detach().clone()) for n, p in module.named_parameters()}
    coded = run(subject, name)
    assert [(n, type(m), id(m), m.training) for n, m in module.named_modules(remove_duplicate=False)] == structure
    for key, parameter in module.named_parameters():
        assert id(parameter) == weights[key][0] and torch.equal(parameter, weights[key][1])
    assert subject.history == () and coded.history == (HISTORY.get(name, name),) and coded.source == subject.source
    # What was not coded is shared, not copied.
    assert module_of(coded).get_parameter("conv.weight") is module.get_parameter("conv.weight")


@pytest.mark.parametrize("name", ROWS)
def test_the_same_model_gives_the_same_codes(name: str, subject: Model) -> None:
    first, second = (module_of(run(subject, name)).state_dict() for _ in range(2))
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ROWS)
def test_the_answer_stays_close(name: str, subject: Model) -> None:
    rows = [subject.entry_points["forward"].inputs]
    before = answer(module_of(subject), rows)[0][0]
    after = answer(module_of(run(subject, name)), rows)[0][0]
    assert after.shape == before.shape and after.dtype == before.dtype
    cosine = nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0)
    assert TECHNIQUES[name].min_cosine <= cosine < 1


@pytest.mark.parametrize("name", ROWS)
def test_a_coded_model_is_exported_whole(name: str, subject: Model) -> None:
    coded = run(subject, name)
    entry = coded.entry_points["forward"]
    program = torch.export.export(entry.module, tuple(entry.inputs.values()))
    ops = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    if TECHNIQUES[name].kind != "quant":
        return
    assert sum("ferrule.coded" in op for op in ops) == (1 if name == "emb8" else 3)
    plain = {"emb8": "aten.embedding", "conv8": "aten.conv2d"}.get(name, "aten.linear")
    assert not any(plain in op for op in ops)


@pytest.mark.parametrize("name", LINEAR)
def test_a_shared_layer_stays_shared(name: str, small: Model) -> None:
    module = module_of(run(small, name))
    assert type(module.get_submodule("first")) is CodedLinear
    assert module.get_submodule("first") is module.get_submodule("again")
    assert type(module.get_submodule("conv")) is nn.Conv1d


@pytest.mark.parametrize("name", LINEAR)
def test_a_layer_shared_by_entry_points_is_coded_once(name: str) -> None:
    body = nn.Linear(64, 64)
    x = torch.randn(1, 64)
    one, two = (EntryPoint(nn.Sequential(body, nn.ReLU()).eval(), {"input": x}) for _ in range(2))
    coded = run(Model({"one": one, "two": two}, "test", Forward("one")), name)
    first, second = (coded.entry_points[n].module.get_submodule("0") for n in ("one", "two"))
    assert type(first) is CodedLinear and first is second


@pytest.mark.parametrize("name", LINEAR)
def test_a_model_that_is_itself_a_layer(name: str) -> None:
    coded = run(as_model(nn.Linear(64, 4), (torch.randn(1, 64),)), name)
    assert type(module_of(coded)) is CodedLinear


@pytest.mark.parametrize(
    ("skip", "left"),
    [(("head",), {"head"}), (("first", "again"), {"first", "again"}), (("*d", "nothing"), {"head"}), ((), set())],
)
def test_skip_globs_leave_layers_alone(skip: tuple[str, ...], left: set[str], small: Model) -> None:
    module = module_of(run(small, "w8", skip=skip))
    kept = {n for n, m in module.named_modules(remove_duplicate=False) if type(m) is nn.Linear}
    assert kept == left


def test_a_subclass_with_a_behaviour_of_its_own_is_left_alone() -> None:
    class Odd(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    model = as_model(nn.Sequential(Odd(8, 8), nn.Linear(8, 8)), (torch.randn(1, 8),))
    module = module_of(run(model, "w8"))
    assert type(module.get_submodule("0")) is Odd and type(module.get_submodule("1")) is CodedLinear


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("w8", {"skip": ("*",)}, "none of its kind outside skip=['*']"),
        ("emb8", {"min_rows": 5000}, "the 1 of its kind are too small"),
        ("emb8", {"skip": ("table",)}, "none of its kind outside"),
    ],
)
def test_a_technique_that_finds_nothing_is_an_error(
    name: str, options: dict[str, object], told: str, small: Model
) -> None:
    with pytest.raises(RecipeError) as caught:
        run(small, name, **options)
    assert caught.value.code == "FER-REC-002"
    assert repr(name) in caught.value.message and told in caught.value.message


class Attention(nn.Module):
    """Self-attention in a torch encoder layer, and attention over a memory of other widths that shows its weights."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 48, dropout=0.0, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=batch_first)
        self.cross = nn.MultiheadAttention(32, 2, kdim=24, vdim=20, bias=False, batch_first=batch_first)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        x = self.encoder(x, src_key_padding_mask=padding)
        causal = torch.ones(x.shape[-2], key.shape[-2], dtype=torch.bool).triu(1) if self.cross.batch_first else None
        answer: tuple[Tensor, Tensor] = self.cross(x, key, value, attn_mask=causal)
        return answer


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_is_taken_apart_exactly_and_then_coded(batch_first: bool) -> None:
    from ferrule.techniques.quant.attention import split_attention

    torch.manual_seed(0)
    shapes = [(2, 6, width) for width in (32, 24, 20)]
    tensors = [torch.randn(*(s if batch_first else (s[1], s[0], s[2]))) for s in shapes]
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    model = as_model(Attention(batch_first).eval(), (*tensors, padding))
    (expected,) = answer(module_of(model), [model.entry_points["forward"].inputs])
    (split,) = answer(module_of(split_attention(model)), [model.entry_points["forward"].inputs])
    for left, right in zip(expected, split, strict=True):
        assert left.shape == right.shape and torch.allclose(left, right, atol=1e-5)
    coded = run(model, "w8")
    kinds = [type(layer).__name__ for layer in module_of(coded).modules()]
    assert kinds.count("CodedLinear") == 2 * 4 + 2 and "MultiheadAttention" not in kinds and not coded.notes
    assert any(isinstance(layer, nn.MultiheadAttention) for layer in module_of(model).modules())
    (close,) = answer(module_of(coded), [model.entry_points["forward"].inputs])
    assert all(torch.allclose(a, b, atol=0.05) for a, b in zip(expected, close, strict=True))
    capture(coded)
    kept = run(model, "w8", skip=("cross",))
    assert isinstance(module_of(kept).get_submodule("cross"), nn.MultiheadAttention)


def test_attention_without_a_batch() -> None:
    from ferrule.techniques.quant.attention import SplitAttention

    layer = nn.MultiheadAttention(16, 2).eval()
    x, mask = torch.randn(5, 16), torch.randn(2, 5, 5)
    expected, shown = layer(x, x, x, attn_mask=mask, average_attn_weights=False)
    found, weights = SplitAttention(layer)(x, x, x, attn_mask=mask, average_attn_weights=False)
    assert weights is not None and shown.shape == weights.shape == (2, 5, 5)
    assert torch.allclose(expected, found, atol=1e-5) and torch.allclose(shown, weights, atol=1e-5)
    assert SplitAttention(layer)(x, x, x, need_weights=False)[1] is None


def test_the_transposed_linear_layers_of_gpt2_are_coded() -> None:
    from transformers.pytorch_utils import Conv1D

    torch.manual_seed(0)
    module = nn.Sequential(Conv1D(48, 32), nn.GELU(), Conv1D(8, 48)).eval()
    model = as_model(module, (torch.randn(3, 32),))
    x = torch.randn(3, 32)
    for name in ("w8", "w4g32"):
        coded = module_of(run(model, name, [{"input": x}]))
        assert [type(layer).__name__ for layer in coded] == ["CodedLinear", "GELU", "CodedLinear"]
        closeness = torch.cosine_similarity(coded(x).flatten(), module(x).flatten(), dim=0)
        assert closeness > (0.999 if name == "w8" else 0.97)


def test_weights_that_stay_float_are_told(small: Model) -> None:
    (note,) = run(small, "w8").notes
    assert "w8 codes linear layers: 47% of the weights" in note and "'conv.weight'" in note
    module = nn.Sequential(nn.Linear(64, 64), nn.Conv1d(1, 4, 3))
    assert not run(as_model(module, (torch.zeros(1, 1, 64),)), "w8").notes


def test_a_recipe_that_repeats_itself_is_an_error_not_a_no_op(small: Model) -> None:
    with pytest.raises(RecipeError, match="'w8a8' conflicts with w8: 2 layers, such as 'first'") as caught:
        compress(small, "w8-w8a8")
    assert caught.value.code == "FER-REC-004"


def test_a_mixed_recipe_gives_each_layer_its_codec(small: Model) -> None:
    steps = [
        {"technique": "lut4", "options": {"layers": ["head"]}},
        {"technique": "w8a8", "options": {"layers": ["first", "again"]}},
        {"technique": "emb8"},
    ]
    mixed = compress(small, {"steps": steps, "min_cosine": 0.5})
    module = module_of(mixed)
    head, first = module.get_submodule("head"), module.get_submodule("first")
    assert isinstance(head, CodedLinear) and isinstance(head.codec, Lookup)
    assert isinstance(first, CodedLinear) and isinstance(first.codec, Affine) and first.activation == ACTIVATION_DYNAMIC
    assert mixed.history == ("lut4", "w8a8", "emb8")
    with pytest.raises(RecipeError, match="among layers=\\['heads'\\]"):
        compress(small, {"steps": [{"technique": "w8", "options": {"layers": ["heads"]}}]})


def test_a_layer_that_calibration_never_reaches_stays_in_float() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.used(x) if x.shape[0] < 5 else self.unused(x)
            return y

    model = as_model(Gated(), (torch.randn(2, 8),))
    coded = run(model, "w8a8-static")
    assert isinstance(module_of(coded).get_submodule("used"), CodedLinear)
    assert isinstance(module_of(coded).get_submodule("unused"), nn.Linear)
    assert any("no calibration input reaches 1 layers, such as 'unused'" in note for note in coded.notes)


def test_static_ranges_need_data(small: Model) -> None:
    with pytest.raises(InputError) as caught:
        compress(small, "w8a8-static")
    assert caught.value.code == "FER-INP-010"
    with pytest.raises(InputError) as caught:
        compress(small, "w8a8-static", calibration=[])
    assert caught.value.code == "FER-INP-007"


def test_a_module_that_cannot_be_copied_is_named() -> None:
    class Holder(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(4, 4))
            self.scaled = self.get_parameter("0.weight") * 2  # computed, so deepcopy refuses it

    model = as_model(Holder().eval(), (torch.randn(1, 4),))
    with pytest.raises(ModelError, match="Holder cannot be copied") as caught:
        run(model, "w8")
    assert caught.value.code == "FER-MOD-005"


@pytest.mark.parametrize(
    ("name", "bits", "group", "activation"),
    [
        ("w8", 8, 0, ACTIVATION_NONE),
        ("w8a8", 8, 0, ACTIVATION_DYNAMIC),
        ("w4g32", 4, 32, ACTIVATION_DYNAMIC),
    ],
)
def test_linear_layers_get_the_codec_of_the_name(
    name: str, bits: int, group: int, activation: int, small: Model
) -> None:
    layer = module_of(run(small, name)).get_submodule("head")
    assert isinstance(layer, CodedLinear)
    assert (layer.bits, layer.group, layer.activation) == (bits, group, activation)
    weight = module_of(small).get_parameter("head.weight").detach()
    assert float((decode(layer.codec) - weight).norm() / weight.norm()) < (0.01 if bits == 8 else 0.12)


def test_w4g32_takes_float_activations_and_plain_rounding(small: Model) -> None:
    layer = module_of(run(small, "w4g32", rounding="rtn", activations="none")).get_submodule("head")
    searched = module_of(run(small, "w4g32")).get_submodule("head")
    assert isinstance(layer, CodedLinear) and isinstance(searched, CodedLinear)
    assert layer.activation == ACTIVATION_NONE
    weight = module_of(small).get_parameter("head.weight").detach()
    assert (decode(searched.codec) - weight).norm() < (decode(layer.codec) - weight).norm()


def test_emb8_codes_large_tables_only() -> None:
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.kinds = nn.Embedding(1024, 8), nn.Embedding(2, 8)

        def forward(self, ids: Tensor) -> Tensor:
            y: Tensor = self.words(ids) + self.kinds(ids % 2)
            return y

    module = module_of(run(as_model(Tables(), (torch.arange(4)[None],)), "emb8"))
    assert type(module.get_submodule("words")) is CodedEmbedding
    assert type(module.get_submodule("kinds")) is nn.Embedding


def calibrated(small: Model, rows: list[Mapping[str, Tensor]], name: str = "w4g32") -> Tensor:
    codes: Tensor = module_of(compress(small, name, calibration=rows)).get_submodule("head").codes
    return codes


def test_conv8_computes_with_the_codes_and_ranges_that_it_holds() -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(6, 10, (3, 2), (2, 1), (1, 0), (1, 2), groups=2), torch.randn(1, 6, 9, 9)
    coded = module_of(run(as_model(layer, (x,)), "conv8", method="minmax"))
    assert isinstance(coded, CodedConv) and coded.codes.dtype == torch.int8
    scale, zero = coded.given
    assert abs(scale - float(x.max() - x.min()) / 255) < scale / 200
    given = ((x / scale).round() + zero).clamp(-128, 127).sub(zero) * scale
    want = nn.functional.conv2d(given, coded.weight, layer.bias, (2, 1), (1, 0), (1, 2), 2)
    torch.testing.assert_close(coded(x), want)
    assert coded.weight.shape == layer.weight.shape
    worst = (coded.weight - layer.weight).abs().flatten(1).amax(1)
    assert bool((worst <= coded.scales[:, 0] * 0.502).all())


def test_conv8_leaves_other_convolutions_alone(small: Model) -> None:
    same, reflected = nn.Conv2d(3, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    model = as_model(nn.Sequential(same, reflected), (torch.randn(1, 3, 8, 8),))
    with pytest.raises(RecipeError, match="the model has none of its kind"):
        run(model, "conv8")
    with pytest.raises(InputError) as caught:
        run(model, "conv8", data=[])
    assert caught.value.code == "FER-INP-010"


def test_calibration_weighs_the_error_of_w4g32_only(small: Model) -> None:
    # Only the first dozen tokens ever occur, so some input features matter more than others.
    rows = [{"ids": torch.full((2, 12), i), "weight": torch.rand(2, 12)} for i in range(3)]
    plain = module_of(run(small, "w4g32")).get_submodule("head").codes
    assert not torch.equal(calibrated(small, rows), plain)
    assert torch.equal(calibrated(small, rows, "w8"), module_of(run(small, "w8")).get_submodule("head").codes)
    assert not any(m._forward_pre_hooks for m in module_of(small).modules())


def test_calibration_rows_may_name_the_inputs_in_any_order(small: Model) -> None:
    rows = [{"ids": torch.full((2, 12), 5), "weight": torch.rand(2, 12)}]
    turned = [dict(reversed(row.items())) for row in rows]
    assert list(turned[0]) == ["weight", "ids"]
    assert torch.equal(calibrated(small, turned), calibrated(small, rows))


def test_proof_inputs_may_name_the_inputs_in_any_order(small: Model) -> None:
    inputs = small.entry_points["forward"].inputs
    model = replace(small, proof_inputs=(dict(reversed(inputs.items())),))
    assert torch.equal(compress(model).proof_outputs[0][0], compress(small).proof_outputs[0][0])
    with pytest.raises(InputError) as caught:
        compress(replace(small, proof_inputs=({"ids": inputs["ids"]},)))
    assert caught.value.code == "FER-INP-004"


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        (lambda row: {"ids": row["ids"]}, "FER-INP-004", "['ids']"),
        (lambda row: {**row, "extra": row["ids"]}, "FER-INP-004", "'extra'"),
        (lambda row: {**row, "weight": row["weight"][:1]}, "FER-INP-005", "[1, 12]; allowed: [2, 12]"),
        (lambda row: {**row, "weight": row["weight"].double()}, "FER-INP-006", "torch.float32 is needed"),
        (lambda row: {**row, "weight": row["weight"] * torch.inf}, "FER-INP-006", "NaN or infinite"),
        (lambda row: {**row, "weight": row["weight"].numpy()}, "FER-INP-002", "ndarray"),
    ],
)
def test_calibration_rows_that_do_not_fit_are_refused(
    change: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], code: str, told: str, small: Model
) -> None:
    row = small.entry_points["forward"].inputs
    with pytest.raises(InputError) as caught:
        compress(small, "w4g32", calibration=[row, change(row)])
    assert caught.value.code == code and told in caught.value.message
    assert "calibration sample 1" in caught.value.message


def test_static_biases_are_whole_units_of_the_integer_product(small: Model) -> None:
    layer = module_of(run(small, "w8a8-static")).get_submodule("first")
    assert isinstance(layer, CodedLinear) and layer.bias is not None
    units = layer.bias.double() / (layer.scales[:, 0].double() * layer.ranges[0])
    assert torch.allclose(units, units.round(), atol=1e-2)
    assert torch.allclose(layer.bias, module_of(small).get_parameter("first.bias"), atol=1e-3)


def test_timms_linear_layers_are_coded_too() -> None:
    from ferrule.sources.torchvision_ops import declare_torchvision_ops

    declare_torchvision_ops()
    from timm.layers import Linear

    net = nn.Sequential(Linear(40, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    coded = compress(as_model(net, (torch.randn(1, 40),)), "w8a8").entry_points["forward"].module
    assert [type(layer).__name__ for layer in coded] == ["CodedLinear", "ReLU", "CodedLinear"]
