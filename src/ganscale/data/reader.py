"""Readers: sample indices to pixels. Both give the same batches.

`IndexedReader` finds a sample by offset in a memory-mapped tar and decodes it; `ResidentReader`
decoded them all once and copies rows of one array.
"""

import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ganscale.config import Data
from ganscale.data.decode import decode
from ganscale.data.manifest import LABEL, OFFSET, SIZE, Manifest, index_path
from ganscale.data.order import Indices
from ganscale.errors import GanscaleError

DECODE_CHUNK = 1024  # samples that a thread decodes at a time while a set is made resident


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

    def __init__(self, manifest: Manifest, data: Data):
        self._folder = Path(data.path)
        self._manifest = manifest
        self._max_pixels = data.max_pixels
        self._skip = data.on_error == "skip"
        self._ends = np.cumsum([shard.samples for shard in manifest.shards])
        self._shards: dict[int, tuple[mmap.mmap, Indices]] = {}
        self.skipped = 0

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_shards": {}}

    def read(self, indices: Indices) -> Batch:
        """Decode the samples; a corrupt one raises `GanscaleError`, or its successor stands in."""
        images = torch.empty((len(indices), *self._manifest.image_shape), dtype=torch.uint8)
        labels = np.empty(len(indices), dtype=np.int64)
        shards = np.searchsorted(self._ends, indices, side="right")
        for row, (index, shard) in enumerate(zip(indices.tolist(), shards.tolist(), strict=True)):
            images[row], labels[row] = self._sample(index, shard)
        return Batch(images, torch.from_numpy(labels))

    def _sample(self, index: int, shard: int, tries: int = 16) -> tuple[Tensor, int]:
        tar, table = self._open(shard)
        row = index - (int(self._ends[shard - 1]) if shard else 0)
        offset, size, label = table[row, [OFFSET, SIZE, LABEL]].tolist()
        try:
            content = tar[offset : offset + size]
            return decode(content, self._manifest.image_shape, self._max_pixels), label
        except ValueError as error:
            name = self._manifest.shards[shard].name
            key = tar[max(offset - 512, 0) : offset][:100].rstrip(b"\0").decode(errors="replace")
            if self._skip and tries:
                self.skipped += 1
                after = (index + 1) % int(self._ends[-1])
                return self._sample(
                    after, int(np.searchsorted(self._ends, after, "right")), tries - 1
                )
            raise GanscaleError(
                f"{self._folder / name}: sample '{key}' cannot be decoded ({error}); "
                "data.on_error=skip reads past it"
            ) from None

    def _open(self, shard: int) -> tuple[mmap.mmap, Indices]:
        """The shard's bytes and index, mapped at first use, which must be those of the manifest."""
        if shard not in self._shards:
            about = self._manifest.shards[shard]
            path = self._folder / about.name
            try:
                table = np.load(index_path(path), allow_pickle=False)
                with path.open("rb") as file:
                    tar = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise GanscaleError(f"{path}: shard or index cannot be read ({error})") from None
            if len(tar) != about.bytes or len(table) != about.samples:
                raise GanscaleError(
                    f"{path}: {len(tar):,} bytes and {len(table):,} samples, the manifest says "
                    f"{about.bytes:,} and {about.samples:,}; pack the set again"
                )
            self._shards[shard] = tar, table
        return self._shards[shard]


class ResidentReader:
    """Reads from one uint8 array that holds the whole set."""

    def __init__(self, images: Tensor, labels: Tensor):
        self._images = images
        self._labels = labels

    def read(self, indices: Indices) -> Batch:
        """Copy the samples out of the array."""
        rows = torch.from_numpy(indices).to(self._images.device)
        return Batch(self._images[rows], self._labels[rows])


def decode_all(reader: IndexedReader, manifest: Manifest, images: Tensor, threads: int) -> Tensor:
    """Decode the whole set into `images` (N, C, H, W); returns the labels."""
    labels = torch.empty(manifest.samples, dtype=torch.int64)

    def fill(start: int) -> None:
        stop = min(start + DECODE_CHUNK, manifest.samples)
        images[start:stop], labels[start:stop] = reader.read(np.arange(start, stop))

    with ThreadPoolExecutor(threads) as pool:  # the decoder releases the interpreter's lock
        list(pool.map(fill, range(0, manifest.samples, DECODE_CHUNK)))
    return labels
