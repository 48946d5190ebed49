"""How long a run lasts, and what it saves, measures and logs."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ganscale.config.registered import NameOf, registry_at
from ganscale.config.section import PositiveFloat, PositiveInt, Section
from ganscale.config.weights_and_biases import OrMode, WeightsAndBiases
from ganscale.registry import log_name


class Train(Section):
    """Length of the run, batch size and precision."""

    steps: PositiveInt = 20_000
    """Number of generator updates in the whole run."""
    batch_size: PositiveInt = 128
    """Images in one update, over all processes together."""
    accumulation: PositiveInt = 1
    """Number of micro-batches into which each process splits its part of a batch to save memory."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Floating-point format of the networks; penalties, optimizer and EMA stay in float32."""
    tf32: bool = True
    """Use TensorFloat-32 for matrix products in fp32, on GPUs that support it."""
    deterministic: bool = False
    """Use only deterministic PyTorch algorithms. On a GPU some are slower, and a few operations
    have none, which ends the run with an error."""
    compile: bool = False
    """Compile each player's loss, penalties included, by torch.compile. It is meant for GPUs."""
    cuda_graph: bool = False
    """Replay the losses and their gradients as CUDA graphs, which launch all operations at once."""
    channels_last: bool = False
    """Store images in channels-last format, which makes convolutions in bf16 and fp16 faster."""
    sync_batch_norm: bool = False
    """Compute BatchNorm statistics over the images of all processes (GPUs only)."""
    timeout: PositiveFloat = 1_800
    """Seconds that a process waits for the others before the run ends with an error."""
    compare_every: PositiveInt | None = 1_000
    """Steps between checks that all processes have the same weights; empty for no checks."""

    @model_validator(mode="after")
    def _check_batch(self) -> "Train":
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size={self.batch_size} is not divisible by "
                f"train.accumulation={self.accumulation}; choose a multiple"
            )
        return self


class Checkpoint(Section):
    """When the run is saved, and which checkpoints are kept."""

    every: PositiveInt = 1_000
    """Steps between checkpoints."""
    keep: PositiveInt = 3
    """Number of recent checkpoints to keep, in addition to the best one."""
    keep_every: PositiveInt | None = None
    """Keep also, for ever, each checkpoint whose step is a multiple of this number, which must be a
    multiple of `every`; empty to keep none of them."""

    @model_validator(mode="after")
    def _check_keep_every(self) -> "Checkpoint":
        if self.keep_every is not None and self.keep_every % self.every:
            raise ValueError(
                f"keep_every={self.keep_every} is not a multiple of checkpoint.every={self.every}: "
                "no checkpoint would be written at most of those steps; choose a multiple"
            )
        return self


def _always_computed() -> list[str]:
    registry = registry_at("ganscale.evaluation.metrics.metric:METRICS")
    return [name for name in registry.built_in() if not registry.get(name).optional]


class Evaluation(Section):
    """Evaluation of the generated images during training."""

    every: PositiveInt | None = None
    """Steps between evaluations, each followed by a checkpoint; empty for no evaluation during
    training."""
    samples: Annotated[int, Field(ge=2)] = 10_000
    """Number of generated images in one evaluation; FID compares them with the whole dataset."""
    batch_size: PositiveInt = 250
    """Images that each process generates at once."""
    features: Annotated[
        str, NameOf("ganscale.evaluation.features.network:FEATURES", besides=("auto",))
    ] = "auto"
    """Network whose features are compared: a small one that is trained once on the dataset, to tell
    its labels (`classifier`) or how an image is rotated (`rotations`), or one with published
    weights, as in papers. `auto` is the classifier if there are labels, otherwise the rotations."""
    weights: str | None = None
    """File with the published weights of `features`; empty to download it when needed."""
    metrics: tuple[
        Annotated[
            str,
            NameOf(
                "ganscale.evaluation.metrics.metric:METRICS", only=lambda metric: metric.optional
            ),
        ],
        ...,
    ] = ()
    """Metrics to compute in addition to those that are always computed."""
    best: Annotated[
        str,
        NameOf(
            "ganscale.evaluation.metrics.metric:METRICS",
            only=lambda metric: metric.lower_is_better is not None,
        ),
    ] = "fid"
    """Metric that decides which checkpoint is the best."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _refuse_what_is_always_computed(cls, given: Any) -> Any:
        for name in given if isinstance(given, list | tuple) and given else ():
            if name in _always_computed():
                raise ValueError(f"{name} is always computed: leave it out")
        return given

    @model_validator(mode="after")
    def _check_metrics(self) -> "Evaluation":
        if not self.metrics and self.best == "fid":
            return self
        always, names = _always_computed(), [log_name(name) for name in self.metrics]
        for name in names:
            if name in always:
                raise ValueError(f"metrics: {name} is the name of one that is always computed")
            if names.count(name) > 1:
                raise ValueError(f"metrics lists {name} twice")
        if self.best not in (*always, *self.metrics):
            raise ValueError(f"best={self.best} is not among evaluation.metrics; add it there")
        return self


class Monitoring(Section):
    """What a run logs during training."""

    log_every: PositiveInt = 100
    """Steps between log entries."""
    pictures_every: PositiveInt = 1_000
    """Steps between image grids of samples."""
    pictures: PositiveInt = 64
    """Number of images in a grid."""
    wandb: Annotated[WeightsAndBiases, OrMode()] = WeightsAndBiases()
    trackers: tuple[
        Annotated[str, NameOf("ganscale.monitoring.trackers.tracker:TRACKERS")], ...
    ] = ("wandb", "tensorboard")
    """Where the run's numbers and pictures are shown, besides its own files and report."""

    @model_validator(mode="after")
    def _check_trackers(self) -> "Monitoring":
        for name in self.trackers:
            if self.trackers.count(name) > 1:
                raise ValueError(f"trackers lists {name} twice")
        return self
