"""Self-attention over the positions of a feature map (Zhang et al. 2019, SAGAN)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Maps features (N, C, H, W) to the same shape; each position attends to a quarter of them.

    Keys and values are pooled to half the side, and the result is added with a gain that starts at
    zero, both as in SAGAN's own code.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // 8)
        self.query = nn.Conv2d(channels, inner, 1, bias=False)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)
        self.value = nn.Conv2d(channels, max(1, channels // 2), 1, bias=False)
        self.output = nn.Conv2d(max(1, channels // 2), channels, 1, bias=False)
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Add to each position what it attends to."""
        query = self.query(features).flatten(2)
        key = F.max_pool2d(self.key(features), 2).flatten(2)
        value = F.max_pool2d(self.value(features), 2).flatten(2)
        # Written out: fused attention has no second derivative, which penalties need.
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
        attended = (value @ weights.transpose(1, 2)).unflatten(2, features.shape[2:])
        mixed: Tensor = features + self.gain * self.output(attended)
        return mixed


def attend_at(side: int, attention: int | None, channels: int) -> list[nn.Module]:
    """Return a self-attention layer if the map has the side asked for, else no layer."""
    return [SelfAttention(channels)] if side == attention else []
