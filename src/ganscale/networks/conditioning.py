"""How class-conditional networks use the class.

Generators with BatchNorm have gains and biases for each class. If the class stood beside the
latent, it would dominate the variance that BatchNorm divides by, and the generator would ignore the
latent (each class became a single image; seen on digits). Generators without BatchNorm take an
embedding beside the latent. Discriminators project their features onto the class.
"""

import torch
from torch import Tensor, nn

EMBEDDING = 64  # numbers that a class adds to the latent


def look_up(table: nn.Embedding, labels: Tensor) -> Tensor:
    """Return the rows of classes (N,) int64, or their mixtures: (N, numbers of a row).

    A mixture of classes has a share of each, (N, classes) in floating point. Its row is the sum of
    the classes' rows, each times its share, so the share 1 of a class gives that class's row.
    """
    if labels.is_floating_point():
        return labels.to(table.weight.dtype) @ table.weight
    rows: Tensor = table(labels)
    return rows


class ClassEmbedding(nn.Module):
    """Maps latents (N, dim) and labels (N,) to (N, `width`); without classes, changes nothing."""

    def __init__(self, latent_dim: int, classes: int | None):
        super().__init__()
        self.width = latent_dim + (EMBEDDING if classes else 0)
        self.table = nn.Embedding(classes, EMBEDDING) if classes else None

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Append the embedding of its class, or of its mixture (see `look_up`), to each latent."""
        if self.table is None:
            return latents
        assert labels is not None  # a conditional network is called with them
        return torch.cat([latents, look_up(self.table, labels).to(latents.dtype)], 1)


class TakesLabels(nn.Module):
    """A layer that is called with features and, in a conditional game, labels (N,)."""


class ClassBatchNorm(TakesLabels):
    """BatchNorm of features (N, C, H, W) with gains and biases by class (Dumoulin et al. 2017)."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Embedding(classes, channels)
        self.bias = nn.Embedding(classes, channels)
        nn.init.normal_(self.gain.weight, 1.0, 0.02)
        nn.init.zeros_(self.bias.weight)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Normalise over all classes together, then scale and shift by class."""
        gain, bias = look_up(self.gain, labels), look_up(self.bias, labels)
        normalised: Tensor = self.norm(features) * gain[:, :, None, None] + bias[:, :, None, None]
        return normalised


def norm_layer(name: str, channels: int, classes: int | None) -> nn.Module:
    """Return BatchNorm for `batch`, by class if there are classes, and no layer for `none`."""
    if name == "none":
        return nn.Identity()
    return ClassBatchNorm(channels, classes) if classes else nn.BatchNorm2d(channels)


class Conditioned(TakesLabels):
    """A sequence of layers that passes labels to those that take them."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Pass features, and labels (N,) if any, through all layers."""
        for layer in self.layers:
            takes_labels = isinstance(layer, TakesLabels)
            features = layer(features, labels) if takes_labels else layer(features)
        return features


class ClassProjection(nn.Module):
    """The class's term of the logit: features · embedding (Miyato & Koyama 2018, eq. 3).

    It maps features (N, width) and labels (N,) to (N,); without classes it returns zeros.
    """

    def __init__(self, width: int, classes: int | None):
        super().__init__()
        self.table = nn.Embedding(classes, width) if classes else None
        if self.table is not None:
            nn.init.normal_(self.table.weight, 0.0, width**-0.5)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        """Return the class's term of each logit."""
        if self.table is None:
            return features.new_zeros(len(features))
        part: Tensor = (features * self.table(labels)).sum(1)
        return part
