"""How networks are told the class: embedded beside the latent, projected on the features."""

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


class ClassProjection(nn.Module):
    """What the class adds to the logit: features · embedding (Miyato & Koyama 2018, eq. 3).

    `forward(features, labels)` takes features (N, width) and returns (N,); without classes, zero.
    """

    def __init__(self, width: int, classes: int | None):
        super().__init__()
        self.table = nn.Embedding(classes, width) if classes else None
        if self.table is not None:
            nn.init.normal_(self.table.weight, 0.0, width**-0.5)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor | float:
        """The class's part of each logit."""
        if self.table is None:
            return 0.0
        part: Tensor = (features * self.table(labels)).sum(1)
        return part
