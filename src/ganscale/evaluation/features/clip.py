"""CLIP ViT-B/32 (Radford et al. 2021), whose features CLIP-FID compares (Kynkäänniemi et al. 2023).

Resizing, cropping and features are those of clean-fid's `clip_vit_b_32`, in float32.
"""

import torch
from torch import Tensor

from ganscale.engines.distributed import Tensors
from ganscale.evaluation.features.network import FEATURES, Features
from ganscale.evaluation.features.published import PublishedNetwork, as_rgb, normalise
from ganscale.evaluation.features.resizing import resize_bicubic_rounded
from ganscale.evaluation.features.vision_transformer import VisionTransformer
from ganscale.evaluation.features.weights import Source

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
RENAMED = {
    "conv1.": "patch_embed.proj.",
    "ln_pre.": "norm_pre.",
    "ln_post.": "norm.",
    "transformer.resblocks.": "blocks.",
    ".ln_": ".norm",
    ".in_proj_": ".qkv.",
    ".out_proj.": ".proj.",
    ".c_fc.": ".fc1.",
    ".c_proj.": ".fc2.",
}


@FEATURES.register("clip")
class CLIP(PublishedNetwork):
    """Maps images (N, C, H, W) to the image features of CLIP ViT-B/32, (N, 512).

    Pillow's bicubic filter makes the shorter side 224 pixels long, and the middle is cut out.
    """

    key = "clip"
    title = "CLIP ViT-B/32 features"
    classifies = False
    source = Source(
        title="CLIP",
        address=f"https://openaipublic.azureedge.net/clip/models/{SHA256}/ViT-B-32.pt",
        file=f"clip-vit-b-32-{SHA256}.pt",
        sha256=SHA256,
        megabytes=354,
        is_archive=True,
        prefix="visual.",
    )

    def __init__(self, weights: Tensors):
        super().__init__(weights)
        renamed = {_rename(name): value.float() for name, value in weights.items()}
        renamed["cls_token"] = renamed.pop("class_embedding")[None, None]
        renamed["pos_embed"] = renamed.pop("positional_embedding")[None]
        renamed["projection"] = renamed.pop("proj")
        patches = round((renamed["pos_embed"].shape[1] - 1) ** 0.5)
        self._side = patches * renamed["patch_embed.proj.weight"].shape[-1]
        self._network = VisionTransformer(renamed, quick_gelu, epsilon=1e-5)

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Return the features, without logits."""
        square = _middle(as_rgb(images), self._side)
        features = self._network(normalise(square, MEAN, STD))
        return Features(features, features.new_zeros(len(features), 0))


def quick_gelu(x: Tensor) -> Tensor:
    """Return CLIP's approximation of the GELU."""
    return x * torch.sigmoid(1.702 * x)


def _rename(name: str) -> str:
    """Return DINOv2's name of one of CLIP's parameters."""
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return name


def _middle(images: Tensor, side: int) -> Tensor:
    """Resize the shorter side to `side` pixels, and return the square in the middle."""
    height, width = images.shape[2:]
    shorter = min(height, width)
    resized = resize_bicubic_rounded(
        images, int(side * height / shorter), int(side * width / shorter)
    )
    top, left = (round((length - side) / 2) for length in resized.shape[2:])
    return resized[:, :, top : top + side, left : left + side]
