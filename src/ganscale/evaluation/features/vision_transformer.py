"""The vision transformer (Dosovitskiy et al. 2021), as DINOv2 and CLIP have it, for inference."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH_OF_HEAD = 64

Activation = Callable[[Tensor], Tensor]


class VisionTransformer(nn.Module):
    """Maps normalised images (N, 3, H, W) to the class token after the last LayerNorm, (N, width).

    Its parameters have DINOv2's names. `weights` give all its sizes, and which of the optional
    parts it has: a LayerNorm before the blocks, a bias of the patches, LayerScale, and a
    projection of the result.
    """

    def __init__(self, weights: Mapping[str, Tensor], activation: Activation, epsilon: float):
        """Build the network with these weights; raise an error for those of another network."""
        super().__init__()
        width, _, patch, _ = weights["patch_embed.proj.weight"].shape
        depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
        has_scale = "blocks.0.ls1.gamma" in weights

        def norm() -> nn.LayerNorm:
            return nn.LayerNorm(width, eps=epsilon)

        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty_like(weights["pos_embed"], dtype=torch.float32))
        has_bias = "patch_embed.proj.bias" in weights
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch, bias=has_bias)})
        self.norm_pre = norm() if "norm_pre.weight" in weights else nn.Identity()
        self.blocks = nn.Sequential(
            *(Block(width, activation, norm, has_scale) for _ in range(depth))
        )
        self.norm = norm()
        self.projection: nn.Parameter | None = None
        if "projection" in weights:
            self.projection = nn.Parameter(torch.empty(weights["projection"].shape))
        self.load_state_dict(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class token, projected if there is a projection."""
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1)
        tokens = self.blocks(self.norm_pre(tokens + self.pos_embed))
        found: Tensor = self.norm(tokens[:, 0])
        return found if self.projection is None else found @ self.projection


class Block(nn.Module):
    """Self-attention and a perceptron, each on normalised tokens and added to them."""

    def __init__(
        self,
        width: int,
        activation: Activation,
        norm: Callable[[], nn.LayerNorm],
        has_scale: bool,
    ):
        super().__init__()
        self.norm1, self.norm2 = norm(), norm()
        self.attn = Attention(width)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)}
        )
        self.ls1, self.ls2 = (Scale(width) if has_scale else nn.Identity() for _ in range(2))
        self._activation = activation

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens after this block, (N, tokens, width)."""
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        hidden = self._activation(self.mlp["fc1"](self.norm2(tokens)))
        changed: Tensor = tokens + self.ls2(self.mlp["fc2"](hidden))
        return changed


class Attention(nn.Module):
    """Self-attention with heads of 64 numbers."""

    def __init__(self, width: int):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what each token has found in the others, (N, tokens, width)."""
        number, length, width = tokens.shape
        split = self.qkv(tokens).view(number, length, 3, width // WIDTH_OF_HEAD, WIDTH_OF_HEAD)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(queries, keys, values)
        joined: Tensor = self.proj(found.transpose(1, 2).reshape(number, length, width))
        return joined


class Scale(nn.Module):
    """Multiplies each feature by a learned number (LayerScale, Touvron et al. 2021)."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the scaled tokens."""
        return tokens * self.gamma
