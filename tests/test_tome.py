"""Token merging: against the released code's matching, on padded rows, on every family, and on the targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ferrule
from ferrule.errors import RecipeError
from ferrule.model import Dim, EntryPoint, Model, as_model
from ferrule.recipe import load_recipe
from ferrule.techniques.tokens.merging import (
    Matching,
    attention_bias,
    match_tokens,
    merge_all,
    merge_padded,
    normalise_keys,
    plan_merging,
    unmerge,
)
from ferrule.techniques.tokens.stack import MergingStack
from ferrule.techniques.tokens.tome import Options, merge_tokens


def released(metric: Tensor, x: Tensor, size: Tensor, r: int, protected: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """ToMe's bipartite soft matching in its own form: argsort, gather and scatter_reduce.

    Returns merged tokens in the order [even ones left, odd ones], their sizes, where sources and targets stand.
    """
    a, b = metric[:, ::2], metric[:, 1::2]
    scores = a @ b.transpose(-1, -2)
    if protected >= 1:
        scores[:, 0, :] = -torch.inf
    if protected >= 2:
        scores[:, :, 0] = -torch.inf
    best, partner = scores.max(-1)
    edge = best.argsort(-1, descending=True)[..., None]
    left, gone = edge[:, r:].sort(1)[0], edge[:, :r]
    target = partner[..., None].gather(1, gone)

    def merge(value: Tensor) -> Tensor:
        source, destination = value[:, ::2], value[:, 1::2]
        width = value.shape[-1]
        kept = source.gather(1, left.expand(-1, -1, width))
        moved = source.gather(1, gone.expand(-1, -1, width))
        return torch.cat([kept, destination.scatter_reduce(1, target.expand(-1, -1, width), moved, "sum")], 1)

    sizes = merge(size[..., None])
    return merge(x * size[..., None]) / sizes, sizes[..., 0], gone[..., 0] * 2, target[..., 0] * 2 + 1


@pytest.mark.parametrize(("tokens", "r", "protected"), [(197, 8, 1), (198, 13, 2), (12, 5, 1), (16, 8, 0), (9, 4, 1)])
def test_merges_what_the_released_code_merges(tokens: int, r: int, protected: int) -> None:
    torch.manual_seed(tokens)
    keys, x = torch.randn(3, 4, tokens, 16), torch.randn(3, tokens, 24)
    sizes = torch.randint(1, 5, (3, tokens)).float()
    metric = normalise_keys(keys, torch.full((16, 1), 1 / 16))
    mean = keys.mean(1)
    torch.testing.assert_close(metric, mean / mean.norm(dim=-1, keepdim=True), atol=1e-4, rtol=1e-4)
    expected, expected_sizes, source, target = released(metric, x, sizes, r, protected)
    matching = match_tokens(metric, None, protected)
    merged, new, went = merge_all(x, sizes, matching, r, torch.arange(tokens).float())
    # The released order is even ones first: sort ours the same way, by the position that each kept token came from.
    kept = torch.ones(3, tokens, dtype=torch.bool).scatter(1, source, False)
    for row in range(3):
        place = kept[row].nonzero()[:, 0]
        order = torch.cat([torch.where(place % 2 == 0)[0], torch.where(place % 2 == 1)[0]])
        torch.testing.assert_close(merged[row, order], expected[row], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(new[row, order], expected_sizes[row])
        assert torch.equal(went[row, source[row]], went[row, target[row]])
        assert torch.equal(went[row, place], torch.arange(len(place)).float())
    assert torch.allclose(new.sum(1), sizes.sum(1))
    assert all(torch.equal(went[:, p], torch.full((3,), float(p))) for p in range(protected))
    restored = unmerge(merged, went)
    assert restored.shape == x.shape
    assert torch.equal(restored[0, source[0]], restored[0, target[0]])


def test_sources_with_one_target_add_up() -> None:
    x = torch.arange(6.0).view(1, 6, 1)
    matching = Matching(0, torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[5.0, 5.0, 1.0]]))
    merged, sizes, _ = merge_all(x, None, matching, 2, torch.arange(6.0))
    assert merged[0, :, 0].tolist() == [1, 3, 4, pytest.approx((0 + 2 + 5) / 3)]
    assert sizes[0].tolist() == [1, 1, 1, 3]
    merged, sizes, _ = merge_all(
        merged, sizes, Matching(0, torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 3.0]])), 1, torch.arange(6.0)
    )
    assert merged[0, -1, 0].item() == pytest.approx((4 + 0 + 2 + 5) / 4) and sizes[0].tolist() == [1, 1, 4]


@pytest.mark.parametrize("protected", [1, 2])
def test_padded_rows_agree_with_whole_ones(protected: int) -> None:
    torch.manual_seed(0)
    metric, x = nn.functional.normalize(torch.randn(2, 20, 8), dim=-1), torch.randn(2, 20, 6)
    whole, sizes, went = merge_all(x, None, match_tokens(metric, None, protected), 5, torch.arange(20.0))
    pad = (0, 0, 0, 11)
    longer, other = nn.functional.pad(x, pad, value=7.0), nn.functional.pad(metric, pad, value=0.5)
    real = torch.cat([torch.ones(2, 20), torch.zeros(2, 11)], 1)
    matching = match_tokens(other, real, protected)
    merged, new, where = merge_padded(longer, real, matching, torch.tensor([5.0, 5.0]), 24)
    torch.testing.assert_close(merged[:, :15], whole)
    assert torch.equal(new[:, :15], sizes) and not new[:, 15:].any()
    assert torch.equal(where[:, :20], went)


def test_every_short_row_has_room_for_its_share() -> None:
    """Each row length, ratio and schedule: enough pairs to merge, enough padding to drop, never less than one left."""
    for longest in (2, 3, 7, 50, 256):
        for protected in (0, 1, 2):
            for r, ratio, schedule in (
                (8, 0.0, "constant"),
                (40, 0.0, "decreasing"),
                (1, 0.5, "constant"),
                (1, 0.1, "decreasing"),
            ):
                plan = plan_merging(6, longest, protected, r=r, ratio=ratio, schedule=schedule, padded=True)
                for tokens in range(protected, longest + 1):
                    lengths = [plan.length(tokens, layer) for layer in range(7)]
                    counts = plan.table()[tokens].int().tolist()
                    assert lengths[0] == tokens
                    for before, after, merged in zip(lengths, lengths[1:], counts, strict=False):
                        assert merged == before - after and 0 <= merged <= (before - protected) // 2
                    assert all(
                        plan.length(tokens, n) >= plan.length(tokens - 1, n) for n in range(7) if tokens > protected
                    )


def test_schedules_are_those_of_the_paper() -> None:
    constant = plan_merging(12, 197, 1, r=8, ratio=0.0, schedule="constant", padded=False)
    assert constant.token_layers(197)[1] == [197 - 8 * n for n in range(1, 13)]
    falling = plan_merging(12, 197, 1, r=8, ratio=0.0, schedule="decreasing", padded=False)
    assert [falling.merges(n) for n in range(12)] == [int(16 - 16 * n / 11 + 1e-9) for n in range(12)]
    clipped = plan_merging(4, 17, 1, r=20, ratio=0.0, schedule="constant", padded=False)
    assert clipped.token_layers(17)[1] == [9, 5, 3, 2]


def test_bias_is_finite_in_half_precision() -> None:
    bias = attention_bias(torch.tensor([[1.0, 3.0, 0.0]]), True, True)
    assert bias is not None and bias.half().isfinite().all()
    assert bias[0].tolist() == [0.0, pytest.approx(1.0986123), -1e4]
    assert attention_bias(torch.ones(1, 3), False, False) is None


# ---- families


def timm_vit(**options: Any) -> nn.Module:
    from ferrule.sources.torchvision_ops import declare_torchvision_ops

    declare_torchvision_ops()
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=16, patch_size=4, in_chans=1, num_classes=5, embed_dim=32, depth=3, num_heads=2, **options
    ).eval()


def text(kind: str, **options: Any) -> nn.Module:
    from ferrule.sources.torchvision_ops import declare_torchvision_ops

    declare_torchvision_ops()
    import transformers

    from ferrule.sources.text_encoder import TextModel

    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }
    if kind == "DistilBert":
        sizes = {"vocab_size": 64, "dim": 32, "hidden_dim": 64, "n_layers": 3, "n_heads": 2}
    config = getattr(transformers, f"{kind}Config")(**sizes, **options)
    config._attn_implementation = "eager"
    return TextModel(getattr(transformers, f"{kind}Model")(config), "last_hidden_state", additive=False).eval()


def vision(kind: str) -> nn.Module:
    from ferrule.sources.torchvision_ops import declare_torchvision_ops

    declare_torchvision_ops()
    import transformers

    from ferrule.sources.vision import VisionModel

    config = getattr(transformers, f"{kind}Config")(
        image_size=16,
        patch_size=4,
        num_channels=1,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
    )
    config._attn_implementation = "eager"
    return VisionModel(getattr(transformers, f"{kind}Model")(config), "last_hidden_state").eval()


class Torch(nn.Module):
    def __init__(self, norm_first: bool, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 2, 64, 0.0, norm_first=norm_first, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.batch_first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        y: Tensor = self.encoder(x)
        return y if self.batch_first else y.transpose(0, 1)


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "timm": timm_vit,
    "timm-mean": lambda: timm_vit(global_pool="avg", class_token=False, init_values=0.1, qk_norm=True),
    "timm-registers": lambda: timm_vit(reg_tokens=2),
    "vit": lambda: vision("ViT"),
    "deit": lambda: vision("DeiT"),
    "dinov2": lambda: vision("Dinov2"),
    "bert": lambda: text("Bert"),
    "roberta": lambda: text("Roberta", max_position_embeddings=80),
    "electra": lambda: text("Electra", embedding_size=16),
    "distilbert": lambda: text("DistilBert"),
    "torch": lambda: Torch(False, True),
    "torch-pre-norm": lambda: Torch(True, False),
}


def model_of(name: str) -> Model:
    torch.manual_seed(0)
    module = FAMILIES[name]().eval()
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15)  # attention that says something
    if name.startswith("torch"):
        return as_model(module, (torch.randn(1, 18, 32),))
    if name in ("bert", "roberta", "electra", "distilbert"):
        ids = torch.arange(2, 22)[None]
        tokens = {1: Dim("tokens", 2, 48)}
        entry = EntryPoint(
            module,
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            {"input_ids": tokens, "attention_mask": tokens},
            {"input_ids": 1, "attention_mask": 0},
        )
        return Model({"forward": entry}, source=name, proof_source="tokens")
    return as_model(module, (torch.randn(1, 1, 16, 16),))


def module_of(model: Model) -> nn.Module:
    return model.entry_points["forward"].module


def stacks_of(model: Model) -> list[MergingStack]:
    return [m for m in module_of(model).modules() if isinstance(m, MergingStack)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_taken_apart_rightly(name: str) -> None:
    """With no pair merged the halves compute what the blocks do; with some the answer keeps its shape, and changes."""
    model = model_of(name)
    inputs = tuple(model.entry_points["forward"].inputs.values())
    names = [key for key, _ in module_of(model).named_parameters()]
    merged = merge_tokens(model, Options(r=2))
    (stack,) = stacks_of(merged)
    with torch.no_grad():
        before, after = module_of(model)(*inputs), module_of(merged)(*inputs)
        stack.plan = replace(stack.plan, totals=(0, 0, 0))
        same = module_of(merged)(*inputs)
    torch.testing.assert_close(same, before, atol=2e-5, rtol=1e-4)
    assert after.shape == before.shape and not torch.allclose(after, before, atol=1e-5)
    assert merged.history == ("tome",) and model.history == ()
    if not name.startswith("torch"):  # where attention is split its layers have names of their own
        assert [key for key, _ in module_of(merged).named_parameters()] == names


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta", "electra"])
@pytest.mark.parametrize(
    "options", [Options(r=6), Options(ratio=0.2, schedule="decreasing"), Options(r=9, prop_attn=False)]
)
def test_padding_changes_nothing(name: str, options: Options) -> None:
    model = model_of(name)
    merged = module_of(merge_tokens(model, options))
    ids = model.entry_points["forward"].inputs["input_ids"]
    for tokens, padded in ((20, 48), (7, 30), (2, 3), (3, 48)):
        row, mask = ids[:, :tokens], torch.ones(1, tokens, dtype=torch.int64)
        fill = (0, padded - tokens)
        with torch.no_grad():
            short = merged(row, mask)
            long = merged(nn.functional.pad(row, fill, value=1), nn.functional.pad(mask, fill))
        torch.testing.assert_close(long[:, :tokens], short, atol=1e-5, rtol=1e-4)


def test_rows_of_a_batch_are_merged_each_on_its_own() -> None:
    merged = module_of(merge_tokens(model_of("timm"), Options(r=3)))
    x = torch.randn(4, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(merged(x), torch.cat([merged(row) for row in x.split(1)]), atol=1e-5, rtol=1e-4)


def test_the_mean_is_that_of_all_tokens() -> None:
    """Pooling after unmerging weighs every token by its size."""
    model = merge_tokens(model_of("vit"), Options(r=4))
    with torch.no_grad():
        y = module_of(model)(*model.entry_points["forward"].inputs.values())
    assert y.shape[1] == 17 and len({tuple(row) for row in y[0].round(decimals=4).tolist()}) == 17 - 4 - 4 - 4


@pytest.mark.parametrize("name", ["timm", "bert", "torch"])
def test_it_composes_with_quantizers_in_either_order(name: str) -> None:
    from ferrule.coded import CodedLinear

    model = model_of(name)
    one, other = ferrule.compress(model, "tome2-w8a8"), ferrule.compress(model, "w8a8-tome2")
    assert one.history == ("tome", "w8a8") and other.history == ("w8a8", "tome")
    counts = [sum(isinstance(m, CodedLinear) for m in module_of(x).modules()) for x in (one, other)]
    assert counts[0] == counts[1] > 0 and len(stacks_of(one)) == len(stacks_of(other)) == 1
    inputs = tuple(model.entry_points["forward"].inputs.values())
    with torch.no_grad():
        torch.testing.assert_close(module_of(one)(*inputs), module_of(other)(*inputs), atol=1e-5, rtol=1e-4)


def test_refusals() -> None:
    with pytest.raises(RecipeError, match="no run of transformer blocks.*") as caught:
        merge_tokens(as_model(nn.Linear(4, 4), (torch.randn(1, 4),)), Options())
    assert caught.value.code == "FER-REC-002" and "DistilBERT" in caught.value.hint
    with pytest.raises(RecipeError, match="stands twice") as caught:
        ferrule.compress(model_of("timm"), "tome2-tome3")
    assert caught.value.code == "FER-REC-004"
    for bad in ({"r": 0}, {"ratio": 0.6}, {"ratio": -0.1}, {"schedule": "rising"}):
        with pytest.raises(RecipeError) as caught:
            load_recipe({"steps": [{"technique": "tome", "options": bad}]})
        assert caught.value.code == "FER-REC-003"


def test_the_number_is_r() -> None:
    (step,) = load_recipe("tome13").steps
    assert dict(step.options) == {"r": 13}
    (step,) = load_recipe("tome8-decreasing").steps
    assert dict(step.options) == {"r": 8, "schedule": "decreasing"}


TARGETS = {
    "coreml": "iphone-15-pro",
    "executorch": "galaxy-s24",
    "executorch-coreml": "macbook-air-m2",
    "litert": "pixel-9",
    "native": "raspberry-pi-5",
    "onnx": "raspberry-pi-5",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm", "bert"])
def test_it_lowers_to_every_target(name: str, tmp_path: Path) -> None:
    recipes = [load_recipe("tome2"), load_recipe("tome2-w8a8")]
    model = model_of(name)
    if name == "bert":  # text of several lengths, padded to buckets where a target has them
        ids = model.entry_points["forward"].inputs["input_ids"]
        rows = tuple({"input_ids": ids[:, :n], "attention_mask": torch.ones_like(ids[:, :n])} for n in (2, 5, 20))
        model = replace(model, proof_inputs=rows)
    built = ferrule.deploy(
        model,
        devices=[f"{d}:{t}" for t, d in TARGETS.items()],
        recipe=[replace(r, min_cosine=0.5) for r in recipes],
        out=tmp_path,
    )
    for result in built:
        assert result.status == "ok", f"{result.target}: {result.code}: {result.reason}"
        assert result.parity is not None and result.parity.fidelity >= 0.999
        if result.recipe == "tome2" and "coreml" not in result.target:
            assert result.parity.fidelity >= 0.99999
