"""The two players: network and optimizer."""

from typing import Literal

from pydantic import Field

from ganscale.config.networks import (
    DISCRIMINATOR,
    GENERATOR,
    DiscriminatorNetwork,
    GeneratorNetwork,
)
from ganscale.config.schedulable import Beta, LearningRate
from ganscale.config.section import PositiveFloat, PositiveInt, Section


class Latent(Section):
    """The noise that the generator turns into images."""

    dim: PositiveInt = 100
    """Length of the latent vector."""
    distribution: Literal["normal", "uniform"] = "normal"
    """Standard normal, or uniform on [-1, 1]."""


class Adam(Section):
    """The Adam optimizer of one player."""

    lr: LearningRate = 2e-4
    """Learning rate."""
    betas: tuple[Beta, Beta] = (0.5, 0.999)
    """Decay of the first and of the second moment."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""


class Generator(Section):
    """The player that makes images."""

    network: GeneratorNetwork = Field(default_factory=GENERATOR.section)
    """What turns a latent vector into an image."""
    optimizer: Adam = Adam()
    clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient; empty for no clipping."""


class DiscriminatorPlayer(Section):
    """The player that tells real images from made ones."""

    network: DiscriminatorNetwork = Field(default_factory=DISCRIMINATOR.section)
    """What turns an image into a logit."""
    optimizer: Adam = Adam()
    clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient; empty for no clipping."""
    steps: PositiveInt = 1
    """Discriminator updates for each generator update."""
