"""The two players: network, optimizer, schedule."""

from typing import Annotated, Any, Literal

from pydantic import Field

from ganscale.config.networks import (
    DISCRIMINATOR,
    GENERATOR,
    DiscriminatorNetwork,
    GeneratorNetwork,
)
from ganscale.config.section import PositiveFloat, PositiveInt, Section


class Latent(Section):
    """The noise that the generator turns into images."""

    dim: PositiveInt = 100
    """Length of the latent vector."""
    distribution: Literal["normal", "uniform"] = "normal"
    """Standard normal, or uniform on [-1, 1]."""


class Adam(Section):
    """The Adam optimizer of one player."""

    lr: PositiveFloat = 2e-4
    """Learning rate."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.5,
        0.999,
    )
    """Decay of the first and second moment."""
    eps: PositiveFloat = 1e-8
    """Added to the root of the second moment."""


class Schedule(Section):
    """A schedule of `torch.optim.lr_scheduler`, stepped once a step; several multiply."""

    name: Literal[
        "ConstantLR",
        "CosineAnnealingLR",
        "CosineAnnealingWarmRestarts",
        "ExponentialLR",
        "LinearLR",
        "MultiStepLR",
        "PolynomialLR",
        "StepLR",
    ]
    """Its class there."""
    options: dict[str, Any] = Field(default={})
    """Its keyword arguments, as for an optimizer of learning rate 1: `{T_max: 100000}`."""


class Generator(Section):
    """The player that makes images."""

    network: GeneratorNetwork = Field(default_factory=GENERATOR.section)
    """What turns a latent vector into an image."""
    optimizer: Adam = Adam()
    schedules: tuple[Schedule, ...] = ()
    """Factors of the learning rate over the run's steps."""
    clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient; empty for no clipping."""


class DiscriminatorPlayer(Section):
    """The player that tells real images from made ones."""

    network: DiscriminatorNetwork = Field(default_factory=DISCRIMINATOR.section)
    """What turns an image into a logit."""
    optimizer: Adam = Adam()
    schedules: tuple[Schedule, ...] = ()
    """Factors of the learning rate over the run's steps."""
    clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient; empty for no clipping."""
    steps: PositiveInt = 1
    """Discriminator updates for each generator update."""
