"""How networks are told the class.

Generators with BatchNorm have gains and biases for each class: were the class put beside the
latent, it would dominate the batch's variance that BatchNorm divides by, and the latent would be
ignored (each class a single image; seen on digits). Generators without BatchNorm take an embedding
beside the latent. Discriminators project their features on the class.
"""

import torch
from torch import Tensor, nn

EMBEDDING = 64  # numbers that a class adds to the latent


class ClassEmbedding(nn.Module):
    """Latents (N, dim) and labels (N,) to latents (N, `width`); without classes, the latents."""

    def __init__(self, latent_dim: int, classes: int | None):
        super().__init__()
        self.width = latent_dim + (EMBEDDING if classes else 0)
        self.table = nn.Embedding(classes, EMBEDDING) if classes else None

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Put the class's embedding behind each latent."""
        if self.table is None:
            return latents
        return torch.cat([latents, self.table(labels).to(latents.dtype)], 1)


class TakesLabels(nn.Module):
    """Called with features, and labels (N,) if the game is conditional."""


class ClassBatchNorm(TakesLabels):
    """BatchNorm of features (N, C, H, W), gain and bias by class (Dumoulin et al. 2017)."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Embedding(classes, channels)
        self.bias = nn.Embedding(classes, channels)
        nn.init.normal_(self.gain.weight, 1.0, 0.02)
        nn.init.zeros_(self.bias.weight)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Normalise over all classes together, then scale and shift by class."""
        gain, bias = self.gain(labels), self.bias(labels)
        normalised: Tensor = self.norm(features) * gain[:, :, None, None] + bias[:, :, None, None]
        return normalised


def norm_layer(name: str, channels: int, classes: int | None) -> nn.Module:
    """`batch`, by class where there are classes; or `none`."""
    if name == "none":
        return nn.Identity()
    return ClassBatchNorm(channels, classes) if classes else nn.BatchNorm2d(channels)


class Conditioned(TakesLabels):
    """Layers one after another; those that take labels are given them."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Pass features, and labels (N,) if any, through all layers."""
        for layer in self.layers:
            told = isinstance(layer, TakesLabels)
            features = layer(features, labels) if told else layer(features)
        return features


class ClassProjection(nn.Module):
    """What the class adds to the logit: features · embedding (Miyato & Koyama 2018, eq. 3).

    `forward(features, labels)` takes features (N, width) and returns (N,); without classes, zero.
    """

    def __init__(self, width: int, classes: int | None):
        super().__init__()
        self.table = nn.Embedding(classes, width) if classes else None
        if self.table is not None:
            nn.init.normal_(self.table.weight, 0.0, width**-0.5)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """The class's part of each logit."""
        if self.table is None:
            return features.new_zeros(len(features))
        part: Tensor = (features * self.table(labels)).sum(1)
        return part
