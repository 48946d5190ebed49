"""The experiment's schema: everything that decides what a run computes, and how.

Each field says its unit and its meaning; the JSON schema that editors complete from is made of
the same lines. Reading a file, overrides and error messages are in ``experiment.py``.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the experiment: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class WeightedSet(Section):
    """One set of a mixture."""

    path: str
    """Folder or URL of a packed set."""
    weight: PositiveFloat = 1.0
    """Its share of the samples, relative to the other weights."""


class Data(Section):
    """Which packed set is read, and how."""

    path: str = "data/mnist"
    """Folder or URL (http, https, s3, …) of a packed set: manifest.json, shards and their index.
    With the streaming reader also shards themselves: `https://…/{0000..0999}.tar`."""
    mixture: tuple[WeightedSet, ...] = ()
    """Sets that are mixed by weight, instead of `path`."""
    balance_classes: bool = False
    """Every class equally often, however many samples it has."""
    resolution: PositiveInt = 28
    """Height and width of an image in pixels."""
    channels: Literal[1, 3] = 1
    """1 for grey, 3 for RGB."""
    reader: Literal["auto", "indexed", "resident", "streaming"] = "auto"
    """`indexed` decodes from the shards as it goes; `resident` decodes once into memory; `auto`
    takes `resident` where the set fits. These give the same batches. `streaming` reads shards one
    after the other with replacement, for sets too large to index: its batches depend on the
    number of processes and workers, and a resumed run draws other ones."""
    resident_on: Literal["auto", "host", "device"] = "auto"
    """Where the resident reader keeps the set; `auto` takes a GPU's memory where it fits."""
    workers: NonNegativeInt = 2
    """Processes a rank that decode ahead (`indexed` and `streaming`); threads for large images."""
    block_shards: PositiveInt = 8
    """Shards whose samples are shuffled together. More mixes better and holds more files open."""
    partitions: PositiveInt = 1
    """Parts that the shards are divided into, each read for its own rows of a batch: as many as
    the most nodes you plan on, so that a node needs only its part. Divides the batch size."""
    cache: str = "~/.cache/ganscale"
    """Folder of this node where remote shards are kept; `none` reads past it (`streaming` only)."""
    cache_gib: PositiveFloat = 100.0
    """Largest size of that folder, in GiB; what was used longest ago makes room."""
    on_error: Literal["raise", "skip"] = "raise"
    """A sample that cannot be decoded: stop and name it, or put a neighbour in its place."""
    max_pixels: PositiveInt = 16_777_216
    """An image of more pixels than this is refused before it is decoded."""
    allow_pipe: bool = False
    """Let a shard's address start with `pipe:`, which runs the rest as a command."""


class Latent(Section):
    """The noise that the generator turns into images."""

    dim: PositiveInt = 100
    """Length of the latent vector."""
    distribution: Literal["normal", "uniform"] = "normal"
    """Standard normal, or uniform on [-1, 1]."""


class MLPGeneratorOptions(Section):
    """A multilayer perceptron from the latent to tanh pixels."""

    architecture: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = (784, 256)
    """Widths of the hidden layers, input side first."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """LeakyReLU has slope 0.2."""


class MLPDiscriminatorOptions(Section):
    """A multilayer perceptron from pixels to one logit."""

    architecture: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = (256,)
    """Widths of the hidden layers, input side first."""
    activation: Literal["relu", "leaky_relu"] = "relu"
    """LeakyReLU has slope 0.2."""


DCGAN_RESOLUTIONS = (28, 32, 64, 128, 256)


class DCGANGeneratorOptions(Section):
    """The DCGAN generator: strided transposed convolutions, BatchNorm, ReLU, tanh."""

    architecture: Literal["dcgan"] = "dcgan"
    width: PositiveInt = 64
    """Channels before the last layer; doubled at each halving of the resolution, up to 8 times."""
    norm: Literal["batch", "none"] = "batch"
    """Normalisation between layers."""


class DCGANDiscriminatorOptions(Section):
    """The DCGAN discriminator: strided convolutions, BatchNorm, LeakyReLU, one logit."""

    architecture: Literal["dcgan"] = "dcgan"
    width: PositiveInt = 64
    """Channels after the first layer; doubled at each halving of the resolution, up to 8 times."""
    norm: Literal["batch", "none", "spectral"] = "batch"
    """Normalisation between layers; gradient penalties want `none`."""


class CustomNetworkOptions(Section):
    """A network of the user's own: `path/to/file.py:ClassName` or `package.module:ClassName`."""

    architecture: str = Field(pattern=r"^[^:]+:[A-Za-z_]\w*$")
    options: dict[str, Any] = {}
    """Keyword arguments of the class, after `latent_dim` or `image_shape`."""


def _architecture_tag(value: Any) -> str:
    name = value.get("architecture") if isinstance(value, dict) else None
    name = name or getattr(value, "architecture", "mlp")
    return "custom" if isinstance(name, str) and ":" in name else str(name)


GeneratorNetwork = Annotated[
    Annotated[MLPGeneratorOptions, Tag("mlp")]
    | Annotated[DCGANGeneratorOptions, Tag("dcgan")]
    | Annotated[CustomNetworkOptions, Tag("custom")],
    Discriminator(_architecture_tag),
]
DiscriminatorNetwork = Annotated[
    Annotated[MLPDiscriminatorOptions, Tag("mlp")]
    | Annotated[DCGANDiscriminatorOptions, Tag("dcgan")]
    | Annotated[CustomNetworkOptions, Tag("custom")],
    Discriminator(_architecture_tag),
]


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


class Generator(Section):
    """The player that makes images."""

    network: GeneratorNetwork = MLPGeneratorOptions()
    optimizer: Adam = Adam()
    clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient; empty for no clipping."""


class DiscriminatorPlayer(Section):
    """The player that tells real images from made ones."""

    network: DiscriminatorNetwork = MLPDiscriminatorOptions()
    optimizer: Adam = Adam()
    clip_norm: PositiveFloat | None = None
    """Largest L2 norm of the gradient; empty for no clipping."""
    steps: PositiveInt = 1
    """Discriminator updates for each generator update."""


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

    @property
    def lazy_interval(self) -> int:
        """The longest interval of a penalty; 1 where none is lazy."""
        return max((p.every for p in self.penalties), default=1)


class EMA(Section):
    """The exponential moving average of the generator's weights, which is what is sampled."""

    half_life: PositiveFloat = 10_000
    """Images after which an old weight counts half."""
    ramp_up: PositiveFloat | None = 0.05
    """The half-life is at most this fraction of the images seen so far; empty for no ramp."""


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
    samples: PositiveInt = 10_000
    """Generated images of one evaluation (the real side is the whole set)."""
    batch_size: PositiveInt = 250
    """Images generated at once by each process."""


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
    wandb_timeout: PositiveInt = 30
    """Seconds to wait for W&B before going on offline."""
    tensorboard: bool = True


class Experiment(Section):
    """One run, whole."""

    MACHINERY: ClassVar[tuple[str, ...]] = (
        "runs",
        "train.steps",
        "train.accumulation",
        "train.timeout",
        "train.compare_every",
        "data.path",
        "data.reader",
        "data.resident_on",
        "data.workers",
        "data.cache",
        "data.cache_gib",
        "checkpoint",
        "evaluation",
        "monitoring",
    )
    """Keys that may change when a run goes on: they do not alter what a step computes (of
    accumulation: beyond floating-point order and BatchNorm's batch)."""

    name: str = Field("mnist_mlp", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run, and of its folder."""
    runs: str = "runs"
    """Folder that holds the run folders."""
    seed: NonNegativeInt = 0
    """Every random draw follows from it."""
    data: Data = Data()
    latent: Latent = Latent()
    generator: Generator = Generator()
    discriminator: DiscriminatorPlayer = DiscriminatorPlayer()
    objective: Objective = Objective()
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
        """Channels, height, width."""
        return (self.data.channels, self.data.resolution, self.data.resolution)

    @model_validator(mode="after")
    def _check_resolution(self) -> "Experiment":
        for player in ("generator", "discriminator"):
            architecture = getattr(self, player).network.architecture
            if architecture == "dcgan" and self.data.resolution not in DCGAN_RESOLUTIONS:
                raise ValueError(
                    f"data.resolution={self.data.resolution}: {player}.network.architecture=dcgan "
                    f"is defined at {', '.join(map(str, DCGAN_RESOLUTIONS))} pixels; "
                    "pack the set at one of these (ganscale pack --size)"
                )
        return self

    @model_validator(mode="after")
    def _check_batch(self) -> "Experiment":
        if self.train.batch_size % self.train.accumulation:
            raise ValueError(
                f"train.batch_size={self.train.batch_size} is not divisible by "
                f"train.accumulation={self.train.accumulation}; choose a multiple"
            )
        return self

    @model_validator(mode="after")
    def _check_data(self) -> "Experiment":
        data = self.data
        if "pipe:" in data.path and not data.allow_pipe:
            raise ValueError(
                f"data.path={data.path}: a pipe: address runs a command; "
                "set data.allow_pipe=true if you trust it"
            )
        special = {
            "data.mixture": bool(data.mixture),
            "data.balance_classes": data.balance_classes,
            "data.partitions": data.partitions > 1,
        }
        chosen = [key for key, given in special.items() if given]
        if len(chosen) > 1 or (chosen and data.reader == "streaming"):
            other = chosen[1] if len(chosen) > 1 else "data.reader=streaming"
            raise ValueError(f"{chosen[0]} does not go together with {other}; choose one")
        if data.cache == "none" and data.reader != "streaming" and "://" in data.path:
            raise ValueError(
                "data.cache=none: only data.reader=streaming reads a remote set without a cache"
            )
        if self.train.batch_size % data.partitions:
            raise ValueError(
                f"train.batch_size={self.train.batch_size} is not divisible by "
                f"data.partitions={data.partitions}; choose a multiple"
            )
        return self

    @model_validator(mode="after")
    def _check_penalties(self) -> "Experiment":
        kinds = [p.kind for p in self.objective.penalties]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"objective.penalties names a kind twice: {', '.join(kinds)}")
        if "wgan_gp" in kinds or "dragan" in kinds:
            network = self.discriminator.network
            if getattr(network, "norm", None) == "batch":
                raise ValueError(
                    "discriminator.network.norm=batch: this gradient penalty is defined for each "
                    "image alone and BatchNorm mixes them; use discriminator.network.norm=none"
                )
        return self
