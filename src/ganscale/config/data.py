"""Which packed set is read, and how."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ganscale.config.registered import NameOf, registry_at
from ganscale.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section
from ganscale.registry import is_custom


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
    classes: Annotated[int, Field(ge=2)] | None = None
    """Classes of the set that both networks are told of; empty for an unconditional game."""
    reader: Annotated[str, NameOf("ganscale.data.reading.readers:READERS", besides=("auto",))] = (
        "auto"
    )
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
    """A sample that cannot be decoded or lacks its class: stop and name it, or put a neighbour in
    its place."""
    verify: Literal["sample", "open"] = "sample"
    """How damage is found that a decoder does not notice, as in a JPEG. `sample` compares each
    sample with its checksum in the index as it is read; `open` reads all of a shard when a process
    first opens it and compares its SHA-256, too."""
    max_pixels: PositiveInt = 16_777_216
    """An image of more pixels than this is refused before it is decoded."""
    allow_pipe: bool = False
    """Let a shard's address start with `pipe:`, which runs the rest as a command."""

    @property
    def is_streamed(self) -> bool:
        """Whether samples are drawn at random, without numbers; a reader of one's own is not."""
        if self.reader == "auto" or is_custom(self.reader):
            return False
        by_number: bool = (
            registry_at("ganscale.data.reading.readers:READERS").get(self.reader).by_number
        )
        return not by_number

    @model_validator(mode="after")
    def _check_path(self) -> "Data":
        if "pipe:" in self.path and not self.allow_pipe:
            raise ValueError(
                f"path={self.path}: a pipe: address runs a command; "
                "set data.allow_pipe=true if you trust it"
            )
        if self.cache == "none" and "://" in self.path and not self.is_streamed:
            raise ValueError(
                "cache=none: only data.reader=streaming reads a remote set without a cache"
            )
        return self

    @model_validator(mode="after")
    def _check_order(self) -> "Data":
        special = {
            "mixture": bool(self.mixture),
            "balance_classes": self.balance_classes,
            "partitions": self.partitions > 1,
        }
        chosen = [key for key, given in special.items() if given]
        if len(chosen) > 1 or (chosen and self.is_streamed):
            other = chosen[1] if len(chosen) > 1 else f"reader={self.reader}"
            raise ValueError(f"{chosen[0]} does not go together with data.{other}; choose one")
        return self
