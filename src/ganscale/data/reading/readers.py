"""Readers, which turn sample numbers into pixels and labels.

`IndexedReader` finds a sample by its offset in a tar and decodes it. To use a reader of your own,
name it in the experiment: `data.reader: my_readers.py:MyReader`.
"""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganscale.config import Data
from ganscale.data.reading.decode import PIXEL_TYPES, Decoder
from ganscale.data.reading.order import Indices
from ganscale.data.reading.png import Pixels
from ganscale.data.shards.index import LABEL, Table
from ganscale.data.shards.manifest import Manifest
from ganscale.data.shards.open_shard import OpenShard
from ganscale.data.shards.storage import Storage
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError
from ganscale.files import sha256_of_file
from ganscale.registry import Registry, is_subclass_of
from ganscale.terminal import printable

if TYPE_CHECKING:
    from ganscale.data.reading.image_set import ImageSet

UNFILTER_BYTES = 1 << 17  # small images are unfiltered together, which saves calls to numpy
MAX_OPEN_SHARDS = 256
TENSOR_TYPES = {8: torch.uint8, 16: torch.uint16}
"""Of a value of so many bits."""
MAX_SKIPPED_IN_A_ROW = 16


log = logging.getLogger("ganscale")


class Batch(NamedTuple):
    """Images (N, C, H, W), uint8 or uint16, and labels (N,), int64, with -1 for none."""

    images: Tensor
    labels: Tensor


def as_supported(images: Tensor) -> Tensor:
    """Return the same bytes in a type that indexing takes on every device: int16 for uint16."""
    return images.view(torch.int16) if images.dtype == torch.uint16 else images


class Opening(NamedTuple):
    """What a reader may be made from."""

    data: Data
    images: "ImageSet"
    ranks: Ranks
    device: torch.device


class Reader(ABC):
    """Provides samples by their number in the dataset."""

    by_number: ClassVar[bool] = True
    in_memory: ClassVar[bool] = False
    """True if all samples lie in memory, so that worker processes would only copy them."""

    @classmethod
    def open(cls, opening: Opening) -> tuple["Reader", str]:
        """Return the reader and a line for the log; every rank calls it.

        By default, the class is called with the dataset.
        """
        return cls(opening.images), f"{cls.__name__}: {opening.images.description}"  # type: ignore[call-arg]

    @abstractmethod
    def read(self, indices: Indices) -> Batch:
        """Return the samples in the order of `indices`."""


class Stream(ABC):
    """Provides batches of samples drawn at random, which have no numbers."""

    by_number: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, data: Data, image_shape: tuple[int, int, int]): ...

    @abstractmethod
    def batches(self, batch_size: int, seed: int, rank: int, step: int) -> Iterator[Batch]:
        """Return an endless iterator over batches of one rank, of which the first is `step`."""


READERS = Registry[type[Reader] | type[Stream]](
    "reader",
    "ganscale.readers",
    wanted="a class derived from ganscale.data.reading.readers.Reader, or from Stream there",
    accepts=is_subclass_of(Reader, Stream),
    modules=(
        "ganscale.data.reading.readers",
        "ganscale.data.reading.resident",
        "ganscale.data.reading.streaming",
    ),
)


def describe_size(images: "ImageSet") -> str:
    """Say how much memory all images of a dataset take."""
    size = images.samples * images.image_bytes
    return f"{images.samples:,} images take {size / 2**20:,.0f} MiB decoded"


@READERS.register("indexed")
class IndexedReader(Reader):
    """Reads samples from the shards by offset and decodes them."""

    def __init__(
        self,
        manifest: Manifest,
        storage: Storage,
        image_shape: tuple[int, int, int],
        max_pixels: int,
        skip: bool = False,
        classes: int | None = None,
        verify_shards: bool = False,
    ):
        """Set up a reader of images (channels, height, width).

        `skip` replaces a corrupt sample by its successor instead of raising an error. With
        `classes`, each sample must have a label in 0 … `classes` - 1. `verify_shards` checks the
        SHA-256 of a whole shard when it is opened.
        """
        self.manifest = manifest
        self._storage = storage
        self._image_shape = image_shape
        self._decoder = Decoder(
            image_shape, max_pixels, resize=manifest.has_mixed_sizes, bits=manifest.bits
        )
        self._skip = skip
        self._classes = classes
        self._verify_shards = verify_shards
        self._ends = np.cumsum([shard.samples for shard in manifest.shards])
        self._open_shards: dict[int, OpenShard] = {}
        self._opening = Lock()
        self.skipped = 0

    @classmethod
    def open(cls, opening: Opening) -> tuple[Reader, str]:
        """Return a reader of all parts of the dataset, and why it was chosen."""
        size = describe_size(opening.images)
        return opening.images.reader(), f"indexed reader: {size}, chosen in the config"

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open_shards": {}, "_opening": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ = {**state, "_opening": Lock()}

    def read(self, indices: Indices) -> Batch:
        """Decode the samples; for a corrupt one, raise `GanscaleError` or use its successor."""
        shape = (len(indices), *self._image_shape)
        # Decoders write pixels in this order; converting to another takes a fifth of the time.
        dtype = TENSOR_TYPES[self.manifest.bits]
        images = torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)
        labels = np.empty(len(indices), dtype=np.int64)
        pixels = images.permute(0, 2, 3, 1).numpy()
        chunk = max(1, UNFILTER_BYTES // math.prod(self._image_shape))
        for start in range(0, len(indices), chunk):
            part = slice(start, start + chunk)
            self._read_into(pixels[part], labels[part], indices[part])
        return Batch(images, torch.from_numpy(labels))

    def _read_into(self, pixels: Pixels, labels: Indices, indices: Indices) -> None:
        places: list[int] = []
        plain: list[bytes] = []
        for row, (index, shard) in enumerate(self._locate(indices)):
            rows, labels[row] = self._sample(index, shard, pixels[row])
            if rows is not None:
                plain.append(rows)
                places.append(row)
        if len(plain) == len(pixels):
            self._decoder.unfilter(plain, pixels)
        elif plain:
            some: Pixels = np.empty(
                (len(plain), *pixels.shape[1:]), PIXEL_TYPES[self.manifest.bits]
            )
            self._decoder.unfilter(plain, some)
            pixels[places] = some

    def _locate(self, indices: Indices) -> Iterator[tuple[int, int]]:
        """Yield each sample's number and the number of its shard."""
        shards = np.searchsorted(self._ends, indices, side="right")
        return zip(indices.tolist(), shards.tolist(), strict=True)

    def fetch(self, shard: int) -> None:
        """Download a shard and its index to this node, if need be."""
        about = self.manifest.shards[shard]
        self._storage.tar(about)
        self._index(shard)

    def labels(self, shard: int) -> Indices:
        """Return the labels of a shard's samples, reading only its index."""
        return self._index(shard)[:, LABEL]

    def _index(self, shard: int) -> Table:
        return self._storage.index(self.manifest.shards[shard], len(self.manifest.classes))

    def _sample(
        self, index: int, shard: int, into: Pixels, tries: int = MAX_SKIPPED_IN_A_ROW
    ) -> tuple[bytes | None, int]:
        """Return a sample's scanlines, to be unfiltered with others, and its label.

        If it is not a plain PNG, decode it `into` its row of pixels and return None and its label.
        """
        opened = self._open(shard)
        offset, size, label, checksum = opened.rows[index - opened.first]
        try:
            if self._classes is not None and not 0 <= label < self._classes:
                raise ValueError(f"class {label} is not in 0 … {self._classes - 1} (data.classes)")
            content = opened.content(offset, size, checksum)
            rows = self._decoder.scanlines(content)
            if rows is None:
                self._decoder.decode(content, into)
            return rows, label
        except (ValueError, OSError) as error:
            name = self.manifest.shards[shard].name
            where = printable(
                f"{self._storage.location}: shard {name}, sample '{opened.key(offset)}': "
                f"cannot be used ({error})"
            )
            if not (self._skip and tries):
                raise GanscaleError(f"{where}; set data.on_error=skip to skip it") from None
        self.skipped += 1
        log.warning("%s; skipped (sample %d that this process skips)", where, self.skipped)
        successor = (index + 1) % int(self._ends[-1])
        ((successor, shard),) = self._locate(np.array([successor]))
        return self._sample(successor, shard, into, tries - 1)

    def _open(self, shard: int) -> OpenShard:
        """Return the open shard with its index; open and check it at first use."""
        opened = self._open_shards.get(shard)
        if opened is None:
            with self._opening:
                opened = self._open_shards.get(shard) or self._open_and_check(shard)
                if len(self._open_shards) >= MAX_OPEN_SHARDS:
                    del self._open_shards[next(iter(self._open_shards))]
                self._open_shards[shard] = opened
        return opened

    def _open_and_check(self, shard: int) -> OpenShard:
        about = self.manifest.shards[shard]
        where = f"{self._storage.location}: shard {about.name}"
        path = self._storage.tar(about)
        table = self._index(shard)
        try:
            opened = OpenShard(path, table, int(self._ends[shard]) - about.samples)
        except (OSError, ValueError) as error:
            raise GanscaleError(f"{where}: cannot be read ({error})") from None
        if opened.size != about.bytes:
            raise GanscaleError(
                f"{where}: {opened.size:,} bytes, but the manifest says {about.bytes:,}; "
                "pack or index the dataset again"
            )
        if self._verify_shards and sha256_of_file(path) != about.sha256:
            raise GanscaleError(
                f"{where}: its SHA-256 differs from the manifest's; copy, pack or index it again"
            )
        return opened


class ConcatReader(Reader):
    """Several datasets as one: the second's samples are numbered after the first's."""

    def __init__(self, readers: Sequence[Reader], samples: Sequence[int]):
        self._readers = readers
        self._ends = np.cumsum(samples)

    def read(self, indices: Indices) -> Batch:
        """Return the samples in the order of `indices`."""
        which = np.searchsorted(self._ends, indices, side="right")
        firsts = self._ends - np.diff(self._ends, prepend=0)
        parts, places = [], []
        for number, reader in enumerate(self._readers):
            mine = np.flatnonzero(which == number)
            if len(mine):
                parts.append(reader.read(indices[mine] - firsts[number]))
                places.append(mine)
        back = torch.from_numpy(np.argsort(np.concatenate(places)))
        images = torch.cat([part.images for part in parts])
        labels = torch.cat([part.labels for part in parts])
        return Batch(images[back.to(images.device)], labels[back.to(labels.device)])
