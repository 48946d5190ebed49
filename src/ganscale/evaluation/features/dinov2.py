"""DINOv2 ViT-L/14 (Oquab et al. 2023), whose features FD-DINOv2 compares (Stein et al. 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ganscale.engines.distributed import Tensors
from ganscale.evaluation.features.network import FEATURES, Features
from ganscale.evaluation.features.published import PublishedNetwork, as_rgb, normalise
from ganscale.evaluation.features.resizing import resize_bicubic_rounded
from ganscale.evaluation.features.vision_transformer import VisionTransformer
from ganscale.evaluation.features.weights import Source

SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WEIGHTS = "dinov2_vitl14_pretrain.pth"
# DINOv2 adds this to the number of patches when it resizes their positions.
OFFSET = 0.1


@FEATURES.register("dinov2")
class DINOv2(PublishedNetwork):
    """Maps images (N, C, H, W) to the class token of DINOv2 ViT-L/14, (N, 1024).

    Images become 224×224 by Pillow's bicubic filter, as in dgm-eval, the code of Stein et al.
    """

    key = "dinov2"
    title = "DINOv2 ViT-L/14 features"
    classifies = False
    source = Source(
        title="DINOv2",
        address=f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/{WEIGHTS}",
        file=WEIGHTS,
        sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        megabytes=1218,
    )

    def __init__(self, weights: Tensors):
        super().__init__(weights)
        weights = {name: value for name, value in weights.items() if name != "mask_token"}
        patches = SIDE // weights["patch_embed.proj.weight"].shape[-1]
        weights["pos_embed"] = resize_positions(weights["pos_embed"], patches)
        self._network = VisionTransformer(weights, F.gelu, epsilon=1e-6)

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Return the features, without logits."""
        resized = resize_bicubic_rounded(as_rgb(images), SIDE, SIDE)
        features = self._network(normalise(resized, MEAN, STD))
        return Features(features, features.new_zeros(len(features), 0))


def resize_positions(positions: Tensor, patches: int) -> Tensor:
    """Return positions (1, 1 + n², width) for `patches`² patches, as DINOv2's own code does."""
    token, grid = positions[:, :1], positions[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    if side == patches:
        return positions
    square = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    scale = (patches + OFFSET) / side
    resized = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([token, resized.flatten(2).transpose(1, 2)], 1)
