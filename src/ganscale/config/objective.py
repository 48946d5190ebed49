"""What the players minimise, and what keeps them in balance."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ganscale.config.registered import NameOf, OptionsOf, registry_at
from ganscale.config.schedulable import PenaltyWeight, ScheduledProbability, ScheduledSize
from ganscale.config.schedules import Schedule
from ganscale.config.section import PositiveFloat, PositiveInt, Section
from ganscale.registry import is_custom, log_name


class PenaltyOptions(Section):
    """A gradient penalty that is added to the discriminator's loss."""

    kind: str
    """Name of the penalty."""
    weight: PenaltyWeight
    """Weight of the penalty: gamma for R1 and R2, whose formula halves it; lambda for WGAN-GP and
    DRAGAN."""
    every: PositiveInt = 1
    """Lazy regularisation: apply the penalty in every n-th discriminator update, with n times the
    weight."""
    precision: Literal["fp32", "network"] = "fp32"
    """Floating-point format in which the penalty is computed: float32, or `network` for that of
    `train.precision`, in which R1 and R2 share the forward pass of the loss."""

    @property
    def name(self) -> str:
        """Name of the penalty in the log: its kind, or the class name of a user-defined penalty."""
        return log_name(self.kind)

    def arguments(self) -> dict[str, Any]:
        """Return what the penalty's constructor is called with: its own options."""
        return self.model_dump(exclude=set(PenaltyOptions.model_fields))


class CustomPenaltyOptions(PenaltyOptions):
    """A user-defined penalty: `path/to/file.py:ClassName` or `package.module:ClassName`."""

    options: dict[str, Any] = Field(default={})
    """Keyword arguments passed to the class."""

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
    """Adversarial loss of both players."""
    penalties: tuple[AnyPenalty, ...] = ()
    """Gradient penalties added to the discriminator's loss."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """One-sided label smoothing: the discriminator's target for real images is 1 minus this value.
    Only losses that have a target accept it."""
    share_fakes: bool = False
    """Train the generator on the images that the discriminator's last update has just judged,
    instead of new ones: a step then generates one batch less."""

    @model_validator(mode="after")
    def _check_label_smoothing(self) -> "Objective":
        if self.label_smoothing and not is_custom(self.loss):
            losses = registry_at("ganscale.gan.losses:LOSSES")
            if not losses.get(self.loss).has_target:
                smoothed = [name for name in losses.names() if losses.get(name).has_target]
                raise ValueError(
                    f"label_smoothing={self.label_smoothing}: the loss {self.loss} has no target "
                    f"to smooth; the losses that have one are {', '.join(smoothed)}"
                )
        return self

    @model_validator(mode="after")
    def _check_penalties(self) -> "Objective":
        names = [penalty.name for penalty in self.penalties]
        if len(set(names)) < len(names):
            raise ValueError(f"penalties lists a kind twice: {', '.join(names)}")
        return self


class Adaptive(Section):
    """ADA's controller: adjusts the augmentation so that the discriminator does not overfit."""

    target: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Target for the mean sign of the discriminator's logits on real images."""
    every: PositiveInt = 4
    """Steps between adjustments of the probability."""
    images: PositiveInt = 500_000
    """Number of training images over which the probability can rise from 0 to 1."""


class Augment(Section):
    """Differentiable augmentation of all images, real and generated, for the discriminator."""

    policy: tuple[Annotated[str, NameOf("ganscale.gan.augment:TRANSFORMS")], ...] = ()
    """Transformations, applied in this order. `[color, translation, cutout]` is DiffAugment; the
    other built-in transformations are from ADA."""
    probability: ScheduledProbability = 1.0
    """Probability that a transformation is applied to an image; the initial value if `adaptive` is
    set."""
    adaptive: Adaptive | None = None
    """Adaptive control of the probability, as in ADA; empty to turn it off."""
    noise_std: ScheduledSize = 0.0
    """Standard deviation of the normal noise that is added to everything the discriminator sees.
    Pixels range from -1 to 1."""

    @model_validator(mode="after")
    def _check_adaptive(self) -> "Augment":
        if self.adaptive is not None and not self.policy:
            names = registry_at("ganscale.gan.augment:TRANSFORMS").names()
            raise ValueError(
                "adaptive steers the probability of augment.policy, which is empty; choose some "
                f"of {', '.join(names)}"
            )
        if self.adaptive is not None and isinstance(self.probability, Schedule):
            raise ValueError(
                "probability is a schedule, and augment.adaptive steers the same number; give the "
                "probability as the number that it starts from, or leave out augment.adaptive"
            )
        return self


class Balance(Section):
    """Lowers the learning rate of the player that is too far ahead, and later restores it.

    The measure is the discriminator's accuracy: the share of pairs of a held-out real image and a
    generated one in which it gives the real image the higher logit. Guessing gives one half.
    """

    held_out: str
    """Folder or URL of a packed dataset that the discriminator is not trained on, such as one
    packed with `--split test`."""
    every: PositiveInt = 250
    """Steps between measurements of the accuracy."""
    images: PositiveInt = 1_000
    """Number of held-out images, and of generated images, in one measurement."""
    band: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (
        0.6,
        0.95,
    )
    """Accuracy below which the generator is slowed, and accuracy above which the discriminator is
    slowed."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """Factor by which a learning rate is multiplied, or divided, after a measurement outside the
    band."""
    least: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Lower limit of a player's learning rate, as a fraction of its own `lr`."""

    @model_validator(mode="after")
    def _check_band(self) -> "Balance":
        if self.band[0] >= self.band[1]:
            raise ValueError(f"band={list(self.band)}: put the lower end first")
        return self


class EMA(Section):
    """The exponential moving average (EMA) of the generator's weights, used for sampling."""

    half_life: ScheduledSize = 10_000
    """Half-life of the average, in training images; 0 turns averaging off."""
    ramp_up: PositiveFloat | None = 0.05
    """Limits the half-life to this fraction of the images seen so far; empty for no limit."""
