"""Every technique of the catalogue lowers to every target that its row claims: no further code for a new row."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import ferrule
from ferrule.bundle import Bundle
from ferrule.catalog import TECHNIQUES

pytestmark = pytest.mark.slow

DEVICE_OF = {
    "coreml": "iphone-15-pro",
    "executorch": "galaxy-s24",
    "executorch-coreml": "macbook-air-m2",
    "litert": "pixel-9",
    "native": "raspberry-pi-5",
    "onnx": "raspberry-pi-5",
}
PAIRS = [(name, target) for name, row in TECHNIQUES.items() for target in row.targets]


class Tagger(nn.Module):
    """A table, a block with normalisation and a residual, a head: token ids [1, tokens] -> scores [1, tokens, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(2048, 64), nn.LayerNorm(64)
        self.up, self.down, self.head = nn.Linear(64, 160), nn.Linear(160, 64), nn.Linear(64, 7, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.table(ids) * mask.unsqueeze(-1).to(torch.float32)
        x = x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))
        scores: Tensor = self.head(x)
        return scores


class Encoder(nn.Module):
    """Two transformer blocks and a head, for techniques that act on tokens: [1, 48, 32] -> scores [1, 48, 7]."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 7)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.encoder(x))
        return scores


class Pictures(nn.Module):
    """A block of convolutions with batch norms and a residual, then a mean: [1, 3, 32, 32] -> [1, 24]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.up, self.depth = nn.Conv2d(16, 64, 1), nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.down, self.head = nn.Conv2d(64, 16, 1), nn.Conv2d(16, 24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.relu6(self.norm(self.stem(x)))
        x = x + self.down(torch.nn.functional.relu6(self.depth(torch.nn.functional.relu6(self.up(x)))))
        pooled: Tensor = self.head(x).mean((2, 3))
        return pooled


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], ferrule.Result]:
    torch.manual_seed(0)
    tokens = {1: ferrule.Dim("tokens", 2, 48)}
    inputs = {"ids": torch.arange(9)[None] * 31, "mask": torch.ones(1, 9, dtype=torch.int64)}
    entry = ferrule.EntryPoint(Tagger().eval(), inputs, {"ids": tokens, "mask": tokens}, padding={"ids": 0, "mask": 0})
    model = ferrule.Model({"forward": entry}, source="tagger", proof_source="example inputs")
    devices = [f"{device}:{target}" for target, device in DEVICE_OF.items()]
    out = tmp_path_factory.mktemp("catalogue")
    on_tokens = [name for name, row in TECHNIQUES.items() if row.kind == "tokens"]
    others = [name for name in TECHNIQUES if name not in (*on_tokens, "conv8")]
    built = ferrule.deploy(model, devices=devices, recipe=others, calibration=[inputs], out=out)
    # Neighbours alike, as in pictures: what is merged there is worth merging.
    x = torch.randn(1, 12, 32).repeat_interleave(4, 1) + 0.1 * torch.randn(1, 48, 32)
    built += ferrule.deploy(Encoder().eval(), (x,), devices=devices, recipe=on_tokens, out=out)
    picture, native = torch.randn(1, 3, 32, 32), [f"{DEVICE_OF['native']}:native"]
    data = [{"x": picture}]
    built += ferrule.deploy(Pictures().eval(), (picture,), devices=native, recipe="conv8", calibration=data, out=out)
    return {(r.recipe, r.target): r for r in built}


@pytest.mark.parametrize(("technique", "target"), PAIRS)
def test_lowers_and_keeps_its_bound(
    results: dict[tuple[str, str], ferrule.Result], technique: str, target: str
) -> None:
    result = results[technique, target]
    assert result.status == "ok", f"{result.code}: {result.reason}"
    assert result.parity is not None and result.parity.cosine >= TECHNIQUES[technique].min_cosine
    assert result.parity.fidelity >= 0.999


@pytest.mark.parametrize(("technique", "target"), [p for p in PAIRS if TECHNIQUES[p[0]].kind == "quant"])
def test_codes_are_in_the_file(results: dict[tuple[str, str], ferrule.Result], technique: str, target: str) -> None:
    """The kind that the technique codes is at most 8 bits (and its scales) in the file, on every target."""
    kind = {"emb8": "embedding", "conv8": "other"}.get(technique, "linear")
    most = {"w4g32": 0.21}.get(technique, 0.33)  # rows of 64 columns: scales weigh more here than in a real model
    weights = Bundle.open(str(results[technique, target].bundle)).program.weights
    coded = [w for w in weights if w.kind == kind]
    assert coded and sum(w.bytes for w in coded) <= most * sum(w.fp32_bytes for w in coded)
