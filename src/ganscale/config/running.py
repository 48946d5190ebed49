"""How long a run is, what it keeps, measures and shows."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ganscale.config.registered import NameOf, registry_at
from ganscale.config.section import PositiveFloat, PositiveInt, Section
from ganscale.registry import is_custom, short_name


class Train(Section):
    """How long, how large, how precise."""

    steps: PositiveInt = 20_000
    """Generator updates of the whole run."""
    batch_size: PositiveInt = 128
    """Images of one update over all processes together."""
    accumulation: PositiveInt = 1
    """Micro-batches a process divides its part of a batch into, to save memory."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the networks; penalties, optimizer and EMA stay in float32."""
    tf32: bool = True
    """TensorFloat-32 matrix products where the GPU has them (with fp32)."""
    deterministic: bool = False
    """Only algorithms of torch that give the same bits each time; on a GPU some are slower, and a
    few layers have none."""
    channels_last: bool = False
    """Memory order of images: faster for convolutions in bf16 and fp16."""
    sync_batch_norm: bool = False
    """BatchNorm over all processes' images (GPUs only)."""
    timeout: PositiveFloat = 1_800
    """Seconds that a process waits for the others before the run ends with an error."""
    compare_every: PositiveInt | None = 1_000
    """Steps between comparisons of the players' weights across processes; empty for none."""


class Checkpoint(Section):
    """When the run is saved, and what is kept."""

    every: PositiveInt = 1_000
    """Steps between checkpoints."""
    keep: PositiveInt = 3
    """How many of the newest are kept; the best is kept besides."""


class Evaluation(Section):
    """Scoring the samples while training."""

    every: PositiveInt | None = None
    """Steps between evaluations, each followed by a checkpoint; empty for none before the end."""
    samples: Annotated[int, Field(ge=2)] = 10_000
    """Generated images of one evaluation (FID's real side is the whole set)."""
    batch_size: PositiveInt = 250
    """Images generated at once by each process."""
    features: Annotated[
        str, NameOf("ganscale.evaluation.features.network:FEATURES", besides=("auto",))
    ] = "auto"
    """Whose features are compared: a small classifier trained on the set's own labels, or
    Inception v3, whose scores papers give; `auto` takes the classifier where there are labels."""
    inception_weights: str | None = None
    """File of torch-fidelity's Inception weights; empty to fetch it at need."""
    metrics: tuple[Annotated[str, NameOf("ganscale.evaluation.metrics.metric:METRICS")], ...] = ()
    """More metrics, besides those that ganscale always computes."""
    best: Annotated[
        str,
        NameOf(
            "ganscale.evaluation.metrics.metric:METRICS",
            only=lambda metric: metric.lower_is_better is not None,
        ),
    ] = "fid"
    """The score that says which checkpoint is the best."""

    @model_validator(mode="after")
    def _check_metrics(self) -> "Evaluation":
        if not self.metrics and not is_custom(self.best):
            return self
        always = registry_at("ganscale.evaluation.metrics.metric:METRICS").built_in()
        names = [*always, *map(short_name, self.metrics)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"metrics names {name} twice, or ganscale has a metric {name}")
        if self.best not in (*always, *self.metrics):
            raise ValueError(f"best={self.best} is not among evaluation.metrics; add it there")
        return self


class Monitoring(Section):
    """What is written while the run goes on."""

    log_every: PositiveInt = 100
    """Steps between lines of losses."""
    pictures_every: PositiveInt = 1_000
    """Steps between grids of samples."""
    pictures: PositiveInt = 64
    """Images of a grid."""
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto`: online where the user is logged in, else offline."""
    wandb_project: str = "ganscale"
    """Project of the run in W&B."""
    wandb_timeout: PositiveInt = 30
    """Seconds to wait for W&B before going on offline."""
    tensorboard: bool = True
    """Also write the metrics for TensorBoard, into the run folder."""
