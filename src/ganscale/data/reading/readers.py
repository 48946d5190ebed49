"""Readers: sample numbers to pixels. Both give the same batches.

`IndexedReader` finds a sample by offset in a tar and decodes it; `ResidentReader` decoded them all
once and copies rows of one array.
"""

import logging
import math
import os
import weakref
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ganscale.data.reading.decode import Decoder
from ganscale.data.reading.order import Indices
from ganscale.data.reading.png import Bytes
from ganscale.data.shards.index import LABEL, NO_CHECKSUM, Table, member_size
from ganscale.data.shards.manifest import TAR_BLOCK, Manifest
from ganscale.data.shards.storage import Storage
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_descriptor, sha256_of_file
from ganscale.terminal import printable

DECODE_CHUNK = 1024  # samples that a thread decodes at a time while a set is made resident
TOGETHER_BYTES = 1 << 17  # small images: one operation on many costs less than many operations
MAX_OPEN_SHARDS = 256
MAX_SKIPPED_IN_A_ROW = 16


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
    """Reads by offset from the shards, decoding as it goes."""

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
        """With `classes` a sample must have one of them: 0 … classes - 1.

        `verify_shards` reads all of a shard when it is opened and compares its SHA-256.
        """
        self.manifest = manifest
        self._storage = storage
        self._image_shape = image_shape
        self._decoder = Decoder(image_shape, max_pixels, resize=manifest.varied)
        self._skip = skip
        self._classes = classes
        self._verify_shards = verify_shards
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
        pixels = images.permute(0, 2, 3, 1).numpy()
        together = max(1, TOGETHER_BYTES // math.prod(self._image_shape))
        for start in range(0, len(indices), together):
            part = slice(start, start + together)
            self._read_into(pixels[part], labels[part], indices[part])
        return Batch(images, torch.from_numpy(labels))

    def _read_into(self, pixels: Bytes, labels: Indices, indices: Indices) -> None:
        places: list[int] = []
        plain: list[bytes] = []
        for row, (index, shard) in enumerate(self._located(indices)):
            rows, labels[row] = self._sample(index, shard, pixels[row])
            if rows is not None:
                plain.append(rows)
                places.append(row)
        if len(plain) == len(pixels):
            self._decoder.unfilter(plain, pixels)
        elif plain:
            some = np.empty((len(plain), *pixels.shape[1:]), dtype=np.uint8)
            self._decoder.unfilter(plain, some)
            pixels[places] = some

    def _located(self, indices: Indices) -> Iterator[tuple[int, int]]:
        """Each sample's number and its shard's."""
        shards = np.searchsorted(self._ends, indices, side="right")
        return zip(indices.tolist(), shards.tolist(), strict=True)

    def fetch(self, shard: int) -> None:
        """Bring a shard and its index onto this node, if they are not there."""
        about = self.manifest.shards[shard]
        self._storage.tar(about)
        self._index(shard)

    def labels(self, shard: int) -> Indices:
        """Labels of a shard's samples, from its index alone."""
        return self._index(shard)[:, LABEL]

    def _index(self, shard: int) -> Table:
        return self._storage.index(self.manifest.shards[shard], len(self.manifest.classes))

    def _sample(
        self, index: int, shard: int, into: Bytes, tries: int = MAX_SKIPPED_IN_A_ROW
    ) -> tuple[bytes | None, int]:
        """Decode a sample `into` a row, or return its scanlines for all such rows together."""
        opened = self._open(shard)
        offset, size, label, checksum = opened.rows[index - opened.first]
        try:
            if self._classes is not None and not 0 <= label < self._classes:
                known = f"0 … {self._classes - 1} (data.classes)"
                raise ValueError(f"class {label} is none of {known}")
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
                raise GanscaleError(f"{where}; data.on_error=skip reads past it") from None
        self.skipped += 1
        log.warning("%s; skipped, number %d of this process", where, self.skipped)
        after = (index + 1) % int(self._ends[-1])
        ((after, shard),) = self._located(np.array([after]))
        return self._sample(after, shard, into, tries - 1)

    def _open(self, shard: int) -> "OpenShard":
        """The shard and its index, opened at first use, which must be those of the manifest."""
        opened = self._open_shards.get(shard)
        if opened is None:
            with self._opening:
                opened = self._open_shards.get(shard) or self._opened(shard)
                if len(self._open_shards) >= MAX_OPEN_SHARDS:
                    del self._open_shards[next(iter(self._open_shards))]
                self._open_shards[shard] = opened
        return opened

    def _opened(self, shard: int) -> "OpenShard":
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
                f"{where}: {opened.size:,} bytes, the manifest says {about.bytes:,}; "
                "pack or index the set again"
            )
        if self._verify_shards and sha256_of_file(path) != about.sha256:
            raise GanscaleError(
                f"{where}: its SHA-256 is not the manifest's; copy, pack or index it again"
            )
        return opened


class OpenShard:
    """An open tar and where its samples lie; the first is number `first` of the set.

    It is read, not mapped: a file that is cut while it is mapped ends the process by SIGBUS.
    """

    def __init__(self, path: Path, table: Table, first: int):
        self._descriptor = open_regular_descriptor(path)
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size
        self.rows: list[list[int]] = table.tolist()  # a list gives a row faster than an array does
        self.first = first

    def content(self, offset: int, size: int, checksum: int) -> bytes:
        """The bytes of a sample's image; `ValueError` where they are not those of the index."""
        content = os.pread(self._descriptor, size, offset)
        if zlib.crc32(content) == checksum:
            return content
        if len(content) != size:
            raise ValueError("the shard has been cut off since it was opened")
        header = os.pread(self._descriptor, TAR_BLOCK, offset - TAR_BLOCK)
        if offset % TAR_BLOCK or member_size(header) != size:
            raise ValueError("the index does not point at a member of the tar")
        if checksum != NO_CHECKSUM:
            raise ValueError("its checksum is not the index's")
        return content

    def key(self, offset: int) -> str:
        """Name of the member at `offset`, for messages."""
        try:
            header = os.pread(self._descriptor, TAR_BLOCK, max(offset - TAR_BLOCK, 0))
        except OSError:
            return f"at byte {offset}"
        return header[:100].partition(b"\0")[0].decode(errors="replace")


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
