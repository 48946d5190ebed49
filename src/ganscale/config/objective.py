"""What the players minimise, and what keeps the game in balance."""

from typing import Annotated, Literal

from pydantic import Field

from ganscale.config.section import PositiveFloat, PositiveInt, Section


class Penalty(Section):
    """A gradient penalty added to the discriminator's loss."""

    kind: Literal["r1", "r2", "wgan_gp", "dragan"]
    weight: PositiveFloat
    """R1 and R2: gamma, of which the formula takes half; WGAN-GP and DRAGAN: lambda."""
    every: PositiveInt = 1
    """Lazy regularisation: applied at every so many discriminator updates, that much stronger."""


class Objective(Section):
    """What the two players minimise."""

    loss: Literal[
        "minimax", "non_saturating", "least_squares", "wasserstein", "hinge", "relativistic"
    ] = "non_saturating"
    penalties: tuple[Penalty, ...] = ()
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """One-sided: the discriminator's target for real images is 1 minus this. For the losses that
    have a target: minimax, non_saturating, least_squares."""


class InstanceNoise(Section):
    """Normal noise on all that the discriminator sees, fading linearly to none."""

    std: PositiveFloat
    """Standard deviation at the first step, in the networks' units (images are -1 … 1)."""
    steps: PositiveInt
    """Steps until it is gone."""


class Adaptive(Section):
    """ADA's controller: as strong an augmentation as keeps D from knowing its images by heart."""

    target: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """The mean sign of the logits of real images that is aimed at."""
    every: PositiveInt = 4
    """Steps between adjustments."""
    images: PositiveInt = 500_000
    """Images in which the probability may go from 0 to 1."""


DIFFAUGMENT = ("color", "translation", "cutout")
ADA = ("flip", "rotate90", "shift", "scale", "rotate", "brightness", "contrast", "hue_saturation")


class Augment(Section):
    """Differentiable augmentation of every image, real or made, before the discriminator."""

    policy: tuple[
        Literal[
            "color",
            "translation",
            "cutout",
            "flip",
            "rotate90",
            "shift",
            "scale",
            "rotate",
            "brightness",
            "contrast",
            "hue_saturation",
        ],
        ...,
    ] = ()
    """What is done, in this order. DiffAugment: `[color, translation, cutout]`; ADA: the rest."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of each for each image; where `adaptive` is set, the first value."""
    adaptive: Adaptive | None = None
    """Steer the probability; empty to leave it."""
    noise: InstanceNoise | None = None


class Balance(Section):
    """Turns down the learning rate of the player that runs away, and up again.

    Judged by the share of pairs, a held-out real image and a made one, of which the discriminator
    finds the real one the more real; half is guessing.
    """

    held_out: str
    """Folder or URL of a packed set that the discriminator is not trained on (`--split test`)."""
    every: PositiveInt = 250
    """Steps between two looks."""
    images: PositiveInt = 1_000
    """Held-out images, and as many made ones, of a look."""
    band: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (
        0.6,
        0.95,
    )
    """Share below which the generator is slowed, and share above which the discriminator is."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """What a learning rate is multiplied by at a look outside the band."""
    least: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """The smallest share of its learning rate that a player keeps."""


class EMA(Section):
    """The exponential moving average of the generator's weights, which is what is sampled."""

    half_life: PositiveFloat = 10_000
    """Images after which an old weight counts half."""
    ramp_up: PositiveFloat | None = 0.05
    """The half-life is at most this fraction of the images seen so far; empty for no ramp."""
