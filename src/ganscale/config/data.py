"""The section for the dataset, and for how it is read."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ganscale.config.registered import NameOf, registry_at
from ganscale.config.resolution import Resolution
from ganscale.config.section import NonNegativeInt, PositiveFloat, PositiveInt, Section
from ganscale.registry import is_custom


class WeightedSet(Section):
    """One dataset of a mixture."""

    path: str
    """Folder or URL of a packed dataset."""
    weight: PositiveFloat = 1.0
    """Share of the samples that come from this dataset, relative to the other weights."""


class Data(Section):
    """The training dataset, and how it is read."""

    path: str = "data/mnist"
    """Folder or URL (http, https, s3, …) of a packed dataset: manifest.json, shards and their
    indexes. A folder, zip, tar or parquet file of images, the address of such a file, or a dataset
    on the Hugging Face Hub (`hf://datasets/user/name`) is packed into `cache` at this resolution
    when a run first needs it, and again if it changes. The streaming reader also accepts the shards
    themselves: `https://…/{0000..0999}.tar`.
    """
    split: str = "train"
    """Split to pack of a dataset on the Hugging Face Hub, or of a folder of parquet files."""
    image_column: str | None = None
    """Column of a table that holds the images; needed only if several do."""
    mixture: tuple[WeightedSet, ...] = ()
    """Datasets to mix by weight; they replace `path`."""
    balance_classes: bool = False
    """Draw every class equally often, regardless of how many samples it has."""
    resolution: Resolution = 28
    """Side of a square image in pixels, or height and width: `[64, 96]`, or `64x96`."""
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of channels: 1 for greyscale, 3 for RGB, 4 for RGBA, up to 64 for anything else."""
    bits: Literal[8, 16] = 8
    """Bits of a value in the dataset, and in samples."""
    classes: Annotated[int, Field(ge=2)] | None = None
    """Number of classes that both networks are conditioned on; empty for an unconditional GAN."""
    flip: bool = False
    """Mirror each training image from left to right with probability ½, each time it is drawn.
    Labels are kept, and the scores compare with the images as they are."""
    reader: Annotated[str, NameOf("ganscale.data.reading.readers:READERS", besides=("auto",))] = (
        "auto"
    )
    """How samples are read. `indexed` decodes samples from the shards when they are needed;
    `resident` decodes all of them once into memory; `auto` chooses `resident` if the dataset fits.
    These give the same batches. `streaming` reads whole shards, drawn with replacement, for
    datasets too large to index: its batches depend on the number of processes and workers, and a
    resumed run draws different ones."""
    resident_on: Literal["auto", "host", "device"] = "auto"
    """Where the resident reader keeps the dataset; `auto` chooses GPU memory if it fits there."""
    workers: NonNegativeInt = 2
    """Number of worker processes per rank that decode ahead (`indexed` and `streaming`); large
    images use threads instead."""
    block_shards: PositiveInt = 8
    """Number of shards whose samples are shuffled together. More shards mix better but keep more
    files open."""
    partitions: PositiveInt = 1
    """Number of parts into which the shards are divided. Each part supplies fixed rows of a batch,
    so a node needs only its own parts; choose the largest number of nodes that you plan to use. It
    must divide the batch size."""
    cache: str = "~/.cache/ganscale"
    """Folder for remote shards and for packed copies on each node; `none` reads remote shards
    without a cache (`streaming` only)."""
    cache_gib: PositiveFloat = 100.0
    """Maximum size of the cache in GiB; the least recently used shards are removed first. Packed
    copies do not count, and are never removed."""
    on_error: Literal["raise", "skip"] = "raise"
    """What happens if a sample cannot be decoded or has no class: `raise` stops and names it, and
    `skip` uses the next sample instead. When images are packed, `skip` leaves it out."""
    verify: Literal["sample", "open"] = "sample"
    """How to detect damage that a decoder may not notice, for example in a JPEG. `sample` verifies
    the checksum of each sample when it is read; `open` also verifies the SHA-256 of a whole shard
    when a process first opens it."""
    max_pixels: PositiveInt = 16_777_216
    """Maximum number of pixels of an image; larger images are refused before they are decoded."""
    allow_pipe: bool = False
    """Allow shard addresses that start with `pipe:`, which run the rest as a command."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        side = self.resolution
        return side if isinstance(side, tuple) else (side, side)

    @property
    def places(self) -> tuple[str, ...]:
        """Where the images are: the locations in `mixture`, or else `path`."""
        return tuple(part.path for part in self.mixture) or (self.path,)

    @property
    def is_streamed(self) -> bool:
        """True if the reader draws samples at random, without numbers; False for user code."""
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
                "cache=none: only data.reader=streaming reads a remote dataset without a cache"
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
            raise ValueError(f"{chosen[0]} cannot be combined with data.{other}; choose one")
        return self
