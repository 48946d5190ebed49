"""A complete experiment: its sections, and the rules that hold between them."""

from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from ganscale.config.data import Data
from ganscale.config.objective import EMA, Augment, Balance, Objective
from ganscale.config.old_forms import refuse_old_forms
from ganscale.config.players import DiscriminatorPlayer, Generator, Latent
from ganscale.config.registered import registry_at
from ganscale.config.resolution import write_resolution
from ganscale.config.running import Checkpoint, Evaluation, Monitoring, Train
from ganscale.config.schedulable import refuse_backward_pieces, schedules_in
from ganscale.config.schedules import Pace
from ganscale.config.section import NonNegativeInt, Section
from ganscale.config.start import InitFrom
from ganscale.config.weights_and_biases import write_out_short_form
from ganscale.errors import GanscaleError
from ganscale.registry import is_custom

EACH_MISTAKE: Final = {"each mistake": True}
"""A context for `Experiment.model_validate`: raise pydantic's error, for who words it elsewhere."""


class Experiment(Section):
    """Everything that describes one run."""

    MACHINERY: ClassVar[tuple[str, ...]] = (
        "runs",
        "train.steps",
        "train.accumulation",
        "train.timeout",
        "train.deterministic",
        "train.compile",
        "train.cuda_graph",
        "train.compare_every",
        "data.path",
        "data.reader",
        "data.resident_on",
        "data.workers",
        "data.cache",
        "data.cache_gib",
        "data.verify",
        "checkpoint",
        "evaluation",
        "monitoring",
    )
    """Keys that may change when a run resumes, because they do not alter what a step computes.
    (`train.accumulation` changes the order of floating-point sums and BatchNorm's batch.)"""

    name: str = Field("mnist_mlp", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run and of its folder."""
    runs: str = "runs"
    """Folder that contains the run folders."""
    seed: NonNegativeInt = 0
    """Seed from which every random draw is derived."""
    init_from: InitFrom | None = None
    data: Data = Data()
    latent: Latent = Latent()
    generator: Generator = Field(default_factory=Generator)
    discriminator: DiscriminatorPlayer = Field(default_factory=DiscriminatorPlayer)
    objective: Objective = Objective()
    augment: Augment = Augment()
    balance: Balance | None = None
    ema: EMA = EMA()
    train: Train = Train()
    checkpoint: Checkpoint = Checkpoint()
    evaluation: Evaluation = Evaluation()
    monitoring: Monitoring = Monitoring()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.runs) / self.name

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an image: channels, height and width."""
        return (self.data.channels, *self.data.size)

    @property
    def pace(self) -> Pace:
        """The batch size and run length that turn positions of schedules into steps."""
        return Pace(self.train.batch_size, self.train.steps)

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_forms(cls, values: Any) -> Any:
        return refuse_old_forms(write_out_short_form(values))

    @model_validator(mode="after")
    def _check_schedules(self) -> "Experiment":
        for key, schedule in schedules_in(self):
            refuse_backward_pieces(key, schedule, self.pace)
        return self

    @model_validator(mode="after")
    def _check_resolution(self) -> "Experiment":
        for player in ("generator", "discriminator"):
            network = getattr(self, player).network
            problem = network.about_resolution(*self.data.size)
            if problem is not None:
                size = write_resolution(*self.data.size)
                raise ValueError(
                    f"data.resolution={size}: {player}.network.architecture="
                    f"{network.architecture} {problem}"
                )
        return self

    @model_validator(mode="after")
    def _check_augmentation(self) -> "Experiment":
        for name in self.augment.policy:
            if is_custom(name):
                continue
            transform = registry_at("ganscale.gan.augment:TRANSFORMS").get(name)
            about = transform.__dict__.get("about_shape")
            if about is not None and (wanted := about(*self.image_shape)) is not None:
                channels, *size = self.image_shape
                raise ValueError(
                    f"augment.policy: {name} is for {wanted}; data.channels={channels} and "
                    f"data.resolution={write_resolution(*size)} are other images"
                )
        return self

    @property
    def held_out(self) -> Data | None:
        """The held-out dataset of `balance`, read like the training set; None without a balance."""
        if self.balance is None:
            return None
        changes = {"path": self.balance.held_out, "mixture": (), "partitions": 1}
        return self.data.model_copy(update=changes)

    @model_validator(mode="after")
    def _check_data(self) -> "Experiment":
        data = self.data
        if data.is_streamed and self.evaluation.every is not None:
            raise ValueError(
                f"evaluation.every={self.evaluation.every}: data.reader={data.reader} never sees "
                "the whole dataset, which FID compares with; set evaluation.every=null"
            )
        if self.train.batch_size % data.partitions:
            raise ValueError(
                f"train.batch_size={self.train.batch_size} is not divisible by "
                f"data.partitions={data.partitions}; choose a multiple"
            )
        return self

    @model_validator(mode="after")
    def _check_frozen_layers(self) -> "Experiment":
        if self.discriminator.freeze and self.init_from is None:
            raise ValueError(
                f"discriminator.freeze={self.discriminator.freeze} would keep layers as the seed "
                "makes them: set init_from to start from trained ones, or discriminator.freeze=0"
            )
        return self

    @model_validator(mode="after")
    def _check_shared_fakes(self) -> "Experiment":
        """Refuse shared fakes where the two losses are separate pieces."""
        if not self.objective.share_fakes:
            return self
        for key, what in (("compile", "compiles"), ("cuda_graph", "captures")):
            if getattr(self.train, key):
                raise ValueError(
                    f"train.{key}=true {what} the two losses apart, and "
                    "objective.share_fakes=true has one generator forward for both; set one of "
                    "them to false"
                )
        return self

    @model_validator(mode="after")
    def _check_precision(self) -> "Experiment":
        for penalty in self.objective.penalties:
            if penalty.precision == "network" and self.train.precision == "fp16":
                raise ValueError(
                    f"the penalty {penalty.name} has precision=network and train.precision=fp16: "
                    "gradients by the pixels fall below what float16 can hold; use bf16, or "
                    "precision=fp32"
                )
        return self

    @model_validator(mode="after")
    def _check_penalties(self) -> "Experiment":
        if getattr(self.discriminator.network, "norm", None) != "batch":
            return self
        penalties = registry_at("ganscale.gan.penalties:PENALTIES")
        for kind in (penalty.kind for penalty in self.objective.penalties):
            if not is_custom(kind) and penalties.get(kind).of_each_image_alone:
                raise ValueError(
                    f"discriminator.network.norm=batch: the penalty {kind} is defined for each "
                    "image alone and BatchNorm mixes them; use discriminator.network.norm=none"
                )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _explain_mistakes(
        cls,
        values: Any,
        validate: ModelWrapValidatorHandler["Experiment"],
        info: ValidationInfo,
    ) -> "Experiment":
        """Raise `GanscaleError` with a line for each mistake; the last validator sees them all."""
        try:
            return validate(values)
        except ValidationError as error:
            if info.context is EACH_MISTAKE:
                raise
            from ganscale.config.mistakes import explain

            lines = [f"  {explain(mistake, values)}" for mistake in error.errors()]
            raise GanscaleError("\n".join(["not a valid experiment:", *lines])) from None
