"""Pictures in, features or scores out: timm's architectures at toy size, and three networks written here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.zoo.lively import enliven, settle
from ferrule.model import EntryPoint, Model
from ferrule.sources.torchvision_ops import declare_torchvision_ops
from ferrule.sources.vision import pictures

__all__ = ["FPN", "UNet", "mixer_model", "picture_model", "poolformer_model", "timm_model"]


def picture_model(name: str, module: nn.Module, side: int = 64, channels: int = 3, count: int = 6) -> Model:
    """A module of one square picture, proven on synthetic ones, from which its batch norms have their statistics."""
    seen = [torch.from_numpy(p) for p in pictures(count, (channels, side, side))]
    settle(module, torch.cat(seen))
    inputs = tuple({"image": p} for p in seen)
    return Model(
        {"forward": EntryPoint(module, inputs[0])},
        source=f"zoo:{name}",
        proof_inputs=inputs,
        proof_source=f"{count} synthetic pictures",
    )


def timm_model(architecture: str, side: int = 64, **options: Any) -> Callable[[str], Model]:
    """A builder of one of timm's architectures, with random weights."""

    def build(name: str) -> Model:
        declare_torchvision_ops()
        import timm

        scores: Mapping[str, Any] = {} if options.get("features_only") else {"num_classes": 10}
        module = timm.create_model(architecture, pretrained=False, **{**scores, **options})
        return picture_model(name, enliven(module), side)

    return build


def mixer_model(name: str) -> Model:
    """An MLP-Mixer of two blocks; timm's named ones have fixed sizes."""
    declare_torchvision_ops()
    from timm.models.mlp_mixer import MlpMixer

    return picture_model(
        name, enliven(MlpMixer(img_size=64, patch_size=16, embed_dim=64, num_blocks=2, num_classes=10))
    )


def poolformer_model(name: str) -> Model:
    """A PoolFormer of five blocks; timm's named ones have fixed sizes."""
    declare_torchvision_ops()
    from timm.layers import GroupNorm1
    from timm.models.metaformer import MetaFormer, Pooling

    module = MetaFormer(
        depths=(1, 1, 2, 1),
        dims=(16, 32, 48, 64),
        token_mixers=Pooling,
        norm_layers=GroupNorm1,
        mlp_act=nn.GELU,
        layer_scale_init_values=1e-5,
        res_scale_init_values=None,
        use_mlp_head=False,
        num_classes=10,
        downsample_norm=None,
    )
    return picture_model(name, enliven(module))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (inputs, outputs):
        layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.SiLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """A picture [1, 3, h, w] -> [1, 1, h, w]; twice halved and restored, by transposed convolution and by resizing."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.enter, self.down, self.deep = _block(3, width), _block(width, 2 * width), _block(2 * width, 4 * width)
        self.raise_ = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.grow = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.up, self.leave = _block(4 * width, 2 * width), _block(3 * width, width)
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Skip connections are concatenated."""
        first = self.enter(image)
        second = self.down(self.pool(first))
        third = self.deep(self.pool(second))
        second = self.up(torch.cat([second, self.raise_(third)], 1))
        result: Tensor = self.head(self.leave(torch.cat([first, self.grow(second)], 1)))
        return result


class FPN(nn.Module):
    """A detector's backbone: four maps of a narrow residual network, joined top-down; each gets scores and boxes."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        declare_torchvision_ops()
        import timm

        self.backbone = timm.create_model(
            "resnet18", pretrained=False, features_only=True, out_indices=(1, 2, 3, 4), channels=(16, 24, 32, 48)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(n, width, 1) for n in self.backbone.feature_info.channels())
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.lateral)
        self.scores, self.boxes = nn.Conv2d(width, 5, 3, padding=1), nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scores [1, places, 5] and boxes [1, places, 4] over all levels."""
        maps = [layer(m) for layer, m in zip(self.lateral, self.backbone(image), strict=True)]
        for i in range(len(maps) - 1, 0, -1):
            size = maps[i - 1].shape[-2:]
            maps[i - 1] = maps[i - 1] + nn.functional.interpolate(maps[i], size=size, mode="nearest")
        maps = [layer(m) for layer, m in zip(self.smooth, maps, strict=True)]
        scores = torch.cat([self.scores(m).flatten(2) for m in maps], 2).transpose(1, 2)
        boxes = torch.cat([self.boxes(m).flatten(2) for m in maps], 2).transpose(1, 2)
        return scores.sigmoid(), boxes.exp()
