"""Generated images that both players' updates use, as in most tutorials' loops."""

import torch
from torch import Tensor

from ganscale.engines.player import Player


class SharedFakes:
    """Keeps the images of the discriminator's last update for the generator's update.

    The generator's weights do not change in between, so the graph of its forward pass still holds.
    Each micro-batch's graph stays in memory until its turn.
    """

    def __init__(self, generator: Player):
        self._generator = generator
        self._kept: list[Tensor] = []

    def generate(self, latents: Tensor, *labels: Tensor) -> Tensor:
        """Return images for the discriminator's loss, and keep them with their graph."""
        with torch.enable_grad():
            fake = self._generator(latents, *labels)
        self._kept.append(fake)
        return fake.detach()

    def take(self, latents: Tensor, *labels: Tensor) -> Tensor:
        """Return the images of the same micro-batch, whatever the latents, for the generator."""
        return self._kept.pop(0)
