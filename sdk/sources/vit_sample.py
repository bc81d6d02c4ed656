"""The architecture behind `sample:vit`: timm's vision transformer at a size that a laptop trains in an hour."""

from __future__ import annotations

from torch import Tensor, nn

from ferrule.sources.torchvision_ops import declare_torchvision_ops

__all__ = ["CLASSES", "FashionViT"]

CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

MEAN, SPREAD = 0.2860, 0.3530  # of the training pictures scaled to [0, 1]


class FashionViT(nn.Module):
    """Grey pictures float32 [batch, 1, side, side], standardised, to logits [batch, 10].

    Patches of 2 x 2 pixels: 196 of them and a class token at side 28, in six blocks 64 wide.
    """

    def __init__(self, side: int = 28) -> None:
        super().__init__()
        declare_torchvision_ops()
        from timm.models.vision_transformer import VisionTransformer

        self.vit = VisionTransformer(
            img_size=side, patch_size=2, in_chans=1, num_classes=10, embed_dim=64, depth=6, num_heads=2, mlp_ratio=4
        )
        for block in self.vit.blocks:
            block.attn.fused_attn = False  # plain matmul and softmax, which every target takes

    @staticmethod
    def standardise(pictures: Tensor) -> Tensor:
        """Pictures of bytes 0..255 as the model takes them, float32."""
        return (pictures.float() / 255 - MEAN) / SPREAD

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.vit(image)
        return logits
