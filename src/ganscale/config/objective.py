"""What the players minimise, and what keeps the game in balance."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from ganscale.config.registered import NameOf, OptionsOf, registry_at
from ganscale.config.schedulable import PenaltyWeight, ScheduledProbability, ScheduledSize
from ganscale.config.schedules import Schedule
from ganscale.config.section import PositiveFloat, PositiveInt, Section
from ganscale.registry import is_custom, short_name


class PenaltyOptions(Section):
    """A gradient penalty added to the discriminator's loss: what every penalty takes."""

    kind: str
    """Which penalty."""
    weight: PenaltyWeight
    """R1 and R2: gamma, of which the formula takes half; WGAN-GP and DRAGAN: lambda."""
    every: PositiveInt = 1
    """Lazy regularisation: applied at every so many discriminator updates, that much stronger."""

    @property
    def name(self) -> str:
        """What the log calls it: the kind, or the class of the user's own file."""
        return short_name(self.kind)

    def arguments(self) -> dict[str, Any]:
        """Return what the penalty's constructor is called with: its own options."""
        return self.model_dump(exclude=set(PenaltyOptions.model_fields))


class CustomPenaltyOptions(PenaltyOptions):
    """A penalty of the user's own: `path/to/file.py:ClassName` or `package.module:ClassName`."""

    options: dict[str, Any] = Field(default={})
    """Keyword arguments of the class."""

    def arguments(self) -> dict[str, Any]:
        """Return what the penalty's constructor is called with: its own options."""
        return self.options


AnyPenalty = Annotated[
    PenaltyOptions,
    OptionsOf(
        "ganscale.gan.penalties:PENALTIES",
        tag="kind",
        base=PenaltyOptions,
        custom=CustomPenaltyOptions,
    ),
]


class Objective(Section):
    """What the two players minimise."""

    loss: Annotated[str, NameOf("ganscale.gan.losses:LOSSES")] = "non_saturating"
    """The adversarial loss of both players."""
    penalties: tuple[AnyPenalty, ...] = ()
    """Gradient penalties added to the discriminator's loss."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """One-sided: the discriminator's target for real images is 1 minus this. Only for the losses
    that have a target; others refuse it."""

    @model_validator(mode="after")
    def _check_label_smoothing(self) -> "Objective":
        if self.label_smoothing and not is_custom(self.loss):
            losses = registry_at("ganscale.gan.losses:LOSSES")
            if not losses.get(self.loss).has_target:
                smoothed = [name for name in losses.names() if losses.get(name).has_target]
                raise ValueError(
                    f"label_smoothing={self.label_smoothing}: the loss {self.loss} has no target "
                    f"to smooth; it goes with {', '.join(smoothed)}"
                )
        return self

    @model_validator(mode="after")
    def _check_penalties(self) -> "Objective":
        names = [penalty.name for penalty in self.penalties]
        if len(set(names)) < len(names):
            raise ValueError(f"penalties names a kind twice: {', '.join(names)}")
        return self


class Adaptive(Section):
    """ADA's controller: as strong an augmentation as keeps D from knowing its images by heart."""

    target: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """The mean sign of the logits of real images that is aimed at."""
    every: PositiveInt = 4
    """Steps between adjustments."""
    images: PositiveInt = 500_000
    """Images in which the probability may go from 0 to 1."""


class Augment(Section):
    """Differentiable augmentation of every image, real or generated, before the discriminator."""

    policy: tuple[Annotated[str, NameOf("ganscale.gan.augment:TRANSFORMS")], ...] = ()
    """What is done, in this order. DiffAugment: `[color, translation, cutout]`; ADA: the rest."""
    probability: ScheduledProbability = 1.0
    """Of each for each image; where `adaptive` is set, the first value."""
    adaptive: Adaptive | None = None
    """Steer the probability; empty to leave it."""
    noise_std: ScheduledSize = 0.0
    """Standard deviation of the normal noise added to everything that the discriminator sees, in
    the networks' units (images are -1 … 1)."""

    @model_validator(mode="after")
    def _check_adaptive(self) -> "Augment":
        if self.adaptive is not None and not self.policy:
            names = registry_at("ganscale.gan.augment:TRANSFORMS").names()
            raise ValueError(
                "adaptive steers the probability of augment.policy, which is empty; give it some "
                f"of {', '.join(names)}"
            )
        if self.adaptive is not None and isinstance(self.probability, Schedule):
            raise ValueError(
                "probability is a schedule, and augment.adaptive steers the same number; give the "
                "probability as the number that it starts from, or leave out augment.adaptive"
            )
        return self


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

    @model_validator(mode="after")
    def _check_band(self) -> "Balance":
        if self.band[0] >= self.band[1]:
            raise ValueError(f"band={list(self.band)}: the lower end comes first")
        return self


class EMA(Section):
    """The exponential moving average of the generator's weights, which is what is sampled."""

    half_life: ScheduledSize = 10_000
    """Images after which an old weight counts half. At 0 the average is the weights themselves."""
    ramp_up: PositiveFloat | None = 0.05
    """The half-life is at most this fraction of the images seen so far; empty for no ramp."""
