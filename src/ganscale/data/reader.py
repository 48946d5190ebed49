"""Readers: sample numbers to pixels. Both give the same batches.

`IndexedReader` finds a sample by offset in a memory-mapped tar and decodes it; `ResidentReader`
decoded them all once and copies rows of one array.
"""

import logging
import math
import mmap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ganscale.data.decode import HEADER_BYTES, Bytes, decode
from ganscale.data.manifest import LABEL, TAR_BLOCK, Manifest, member_size
from ganscale.data.order import Indices
from ganscale.data.storage import Storage
from ganscale.errors import GanscaleError

DECODE_CHUNK = 1024  # samples that a thread decodes at a time while a set is made resident
COPIED_TOGETHER = 128  # small images: one copy of many costs less than many copies
DECODED_IN_PLACE_BYTES = 1 << 15  # images from this size on are decoded where they belong
MOST_OPEN_SHARDS = 256
SIZE_FIELD_BACK = TAR_BLOCK - 124  # a member's size stands so far before its content
MOST_SKIPPED_IN_A_ROW = 16


log = logging.getLogger("ganscale")


class Batch(NamedTuple):
    """Images (N, C, H, W) uint8, labels (N,) int64 with -1 for none."""

    images: Tensor
    labels: Tensor


class Reader(Protocol):
    """Gives samples by their number in the set."""

    def read(self, indices: Indices) -> Batch:
        """The samples, in the order asked for."""


class IndexedReader:
    """Reads by offset from memory-mapped shards, decoding as it goes."""

    def __init__(
        self,
        manifest: Manifest,
        storage: Storage,
        image_shape: tuple[int, int, int],
        max_pixels: int,
        skip: bool = False,
        classes: int | None = None,
    ):
        """With `classes` a sample must have one of them: 0 … classes - 1."""
        self.manifest = manifest
        self._storage = storage
        self._image_shape = image_shape
        self._max_pixels = max_pixels
        self._skip = skip
        self._classes = classes
        self._ends = np.cumsum([shard.samples for shard in manifest.shards])
        self._open_shards: dict[int, OpenShard] = {}
        self._opening = Lock()
        self.skipped = 0

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open_shards": {}, "_opening": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__ = {**state, "_opening": Lock()}

    def read(self, indices: Indices) -> Batch:
        """Decode the samples; a corrupt one raises `GanscaleError`, or its successor stands in."""
        shape = (len(indices), *self._image_shape)
        # The order in which decoders write pixels: another would take a fifth of the time.
        images = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        labels = np.empty(len(indices), dtype=np.int64)
        if math.prod(self._image_shape) >= DECODED_IN_PLACE_BYTES:
            rows = images.permute(0, 2, 3, 1).numpy()
            for row, sample in enumerate(self._located(indices)):
                _, labels[row] = self._sample(*sample, into=rows[row])
            return Batch(images, torch.from_numpy(labels))
        for start in range(0, len(indices), COPIED_TOGETHER):
            part = slice(start, start + COPIED_TOGETHER)
            samples = [self._sample(*sample) for sample in self._located(indices[part])]
            pixels, labels[part] = zip(*samples, strict=True)
            torch.stack(pixels, out=images[part])
        return Batch(images, torch.from_numpy(labels))

    def _located(self, indices: Indices) -> Iterator[tuple[int, int]]:
        """Each sample's number and its shard's."""
        shards = np.searchsorted(self._ends, indices, side="right")
        return zip(indices.tolist(), shards.tolist(), strict=True)

    def fetch(self, shard: int) -> None:
        """Bring a shard and its index onto this node, if they are not there."""
        about = self.manifest.shards[shard]
        self._storage.path(about.name, about.bytes, about.sha256)
        self._storage.path(about.index_name, None, about.index_sha256)

    def labels(self, shard: int) -> Indices:
        """Labels of a shard's samples, from its index alone."""
        return self._index(shard)[:, LABEL]

    def _index(self, shard: int) -> Indices:
        about = self.manifest.shards[shard]
        path = self._storage.path(about.index_name, None, about.index_sha256)
        table: Indices = np.load(path, allow_pickle=False)
        return table

    def _sample(
        self, index: int, shard: int, tries: int = MOST_SKIPPED_IN_A_ROW, into: Bytes | None = None
    ) -> tuple[Tensor, int]:
        opened = self._open(shard)
        offset, size, label = opened.rows[index - opened.first]
        try:
            if self._classes is not None and not 0 <= label < self._classes:
                known = f"0 … {self._classes - 1} (data.classes)"
                raise ValueError(f"class {label} is none of {known}")
            if (
                opened.tar[offset - SIZE_FIELD_BACK : offset - SIZE_FIELD_BACK + 11]
                != b"%011o" % size
            ):
                opened.check_header(offset, size)
            content = opened.content[offset : offset + size]
            header = opened.tar[offset : offset + min(size, HEADER_BYTES)]
            shape, resize = self._image_shape, self.manifest.varied
            return decode(content, header, shape, self._max_pixels, resize, into), label
        except ValueError as error:
            name = self.manifest.shards[shard].name
            where = (
                f"{self._storage.location}: shard {name}, sample '{opened.key(offset)}': "
                f"cannot be used ({error})"
            )
            if not (self._skip and tries):
                raise GanscaleError(f"{where}; data.on_error=skip reads past it") from None
        self.skipped += 1
        log.warning("%s; skipped, number %d of this process", where, self.skipped)
        after = (index + 1) % int(self._ends[-1])
        ((after, shard),) = self._located(np.array([after]))
        return self._sample(after, shard, tries - 1, into)

    def _open(self, shard: int) -> "OpenShard":
        """The shard's bytes and index, mapped at first use, which must be those of the manifest."""
        opened = self._open_shards.get(shard)
        if opened is None:
            with self._opening:
                opened = self._open_shards.get(shard) or self._map(shard)
                if len(self._open_shards) >= MOST_OPEN_SHARDS:
                    del self._open_shards[next(iter(self._open_shards))]
                self._open_shards[shard] = opened
        return opened

    def _map(self, shard: int) -> "OpenShard":
        about = self.manifest.shards[shard]
        where = f"{self._storage.location}: shard {about.name}"
        try:
            path = self._storage.path(about.name, about.bytes, about.sha256)
            table = self._index(shard)
            with path.open("rb") as file:
                tar = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError, EOFError) as error:
            raise GanscaleError(f"{where}: it or its index cannot be read ({error})") from None
        if len(tar) != about.bytes or table.shape != (about.samples, 3):
            raise GanscaleError(
                f"{where}: {len(tar):,} bytes and {len(table):,} samples, the manifest says "
                f"{about.bytes:,} and {about.samples:,}; pack or index the set again"
            )
        return OpenShard(tar, table, int(self._ends[shard]) - about.samples)


class OpenShard:
    """A mapped tar and where its samples lie; the first is number `first` of the set."""

    def __init__(self, tar: mmap.mmap, table: Indices, first: int):
        self.tar = tar
        self.rows: list[list[int]] = table.tolist()  # a list gives a row faster than an array does
        self.first = first
        self.content = np.frombuffer(tar, dtype=np.uint8)

    def check_header(self, offset: int, size: int) -> None:
        """Whether a member of that size starts at `offset`: `ValueError` where it does not."""
        header = self.tar[max(offset - TAR_BLOCK, 0) : max(offset, 0)]
        if offset % TAR_BLOCK or member_size(header) != size:
            raise ValueError("the index does not point at a member of the tar")

    def key(self, offset: int) -> str:
        """Name of the member at `offset`, for messages."""
        header = self.tar[max(offset - TAR_BLOCK, 0) : max(offset, 0)]
        return header[:100].rstrip(b"\0").decode(errors="replace")


class ConcatReader:
    """Several sets as one: the second's samples are numbered after the first's."""

    def __init__(self, readers: Sequence[Reader], samples: Sequence[int]):
        self._readers = readers
        self._ends = np.cumsum(samples)

    def read(self, indices: Indices) -> Batch:
        """The samples, in the order asked for."""
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


class ResidentReader:
    """Reads from one uint8 array that holds the whole set."""

    def __init__(self, images: Tensor, labels: Tensor):
        self._images = images
        self._labels = labels

    def to(self, device: torch.device) -> "ResidentReader":
        """The same set in a device's memory."""
        return ResidentReader(self._images.to(device), self._labels.to(device))

    def read(self, indices: Indices) -> Batch:
        """Copy the samples out of the array."""
        rows = torch.from_numpy(indices).to(self._images.device)
        return Batch(self._images.index_select(0, rows), self._labels.index_select(0, rows))


def decode_all(reader: Reader, images: Tensor, threads: int) -> Tensor:
    """Decode the whole set into `images` (N, C, H, W); returns the labels."""
    number = len(images)
    labels = torch.empty(number, dtype=torch.int64)

    def fill(start: int) -> None:
        stop = min(start + DECODE_CHUNK, number)
        images[start:stop], labels[start:stop] = reader.read(np.arange(start, stop))

    with ThreadPoolExecutor(threads) as pool:  # the decoder releases the interpreter's lock
        list(pool.map(fill, range(0, number, DECODE_CHUNK)))
    return labels
