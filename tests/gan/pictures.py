"""Pictures to augment, and policies that always apply."""

from collections.abc import Callable

import torch
from torch import Tensor

from ganscale.gan.augment import TRANSFORMS, Transform

Uniform = Callable[[tuple[int, ...]], Tensor]


def always(*values: float) -> Uniform:
    """Draws these numbers, whatever the shape's leading size."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        table = torch.tensor(values[: shape[0]] if shape[0] > 1 else values[:1])
        return table.view(-1, *[1] * (len(shape) - 1)).expand(shape)[None]

    return draw


def policy(*names: str) -> list[Transform]:
    return [TRANSFORMS.get(name) for name in names]


def picture(side: int = 16, channels: int = 3) -> Tensor:
    return torch.rand(1, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
