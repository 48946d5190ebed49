"""The order of samples: which of them make up batch k is a pure function of (seed, dataset, k).

Samples are numbered through the whole dataset, shard after shard. In each epoch the shards are
permuted, each `block_shards` neighbours form a block, and the samples of a block are permuted
together. No array is ever as long as the dataset: an epoch needs a permutation of the shards, a
batch a permutation of each block that it touches. Each sample occurs exactly once per epoch; a
batch that crosses the end of an epoch continues with the next one.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ganscale.errors import GanscaleError
from ganscale.host_randomness import permutation

Indices = NDArray[np.int64]


class Order(Protocol):
    """The endless sequence of global batches of one run."""

    samples: int
    """The number of samples in an epoch."""

    def batch(self, k: int, batch_size: int, rows: range | None = None) -> Indices:
        """Return the sample indices of global batch `k`, or of some of its rows."""

    def next_shards(self, k: int, batch_size: int, rows: range) -> list[int]:
        """Return the shards to prefetch: the block after the last sample of these rows."""


class ShuffledOrder:
    """The samples of some shards in a random order, epoch after epoch without end."""

    def __init__(
        self,
        seed: int,
        shard_samples: Sequence[int] | Indices,
        block_shards: int,
        shards: Indices | None = None,
        purpose: str = "order",
    ):
        """Order the samples of all shards, or only of those numbered in `shards`.

        `purpose` names the stream of random numbers, so that two orders with one seed differ.
        """
        sizes = np.asarray(shard_samples, dtype=np.int64)
        firsts = np.cumsum(sizes) - sizes
        self._seed = seed
        self._shards = np.arange(len(sizes)) if shards is None else shards
        self._sizes = sizes[self._shards]
        self._firsts = firsts[self._shards]
        self._block_shards = block_shards
        self._purpose = purpose
        self.samples = int(self._sizes.sum())
        # A batch touches one or two epochs and a few neighbouring blocks.
        self._epochs: dict[int, tuple[Indices, Indices]] = {}
        self._blocks: dict[tuple[int, int], Indices] = {}

    def batch(self, k: int, batch_size: int, rows: range | None = None) -> Indices:
        """Return the sample indices of global batch `k`, or of some of its rows."""
        rows = rows if rows is not None else range(batch_size)
        return self.positions(k * batch_size + rows.start, k * batch_size + rows.stop)

    def positions(self, start: int, stop: int) -> Indices:
        """Return the sample indices at positions `start` … `stop` - 1 of the endless sequence."""
        pieces = []
        while start < stop:
            epoch, block, offset = self._locate(start)
            samples = self._block(epoch, block)
            piece = samples[offset : offset + stop - start]
            pieces.append(piece)
            start += len(piece)
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)

    def next_shards(self, k: int, batch_size: int, rows: range) -> list[int]:
        """Return the shards of the block after the last sample of these rows."""
        epoch, block, _ = self._locate(k * batch_size + rows.stop - 1)
        permuted, starts = self._epoch(epoch)
        if block + 1 == len(starts):
            permuted, block = self._epoch(epoch + 1)[0], -1
        first = (block + 1) * self._block_shards
        shards: list[int] = self._shards[permuted[first : first + self._block_shards]].tolist()
        return shards

    def _locate(self, position: int) -> tuple[int, int, int]:
        """Return the epoch, the block, and the offset in the block of a position."""
        epoch, offset = divmod(position, self.samples)
        _, starts = self._epoch(epoch)
        block = int(np.searchsorted(starts, offset, side="right")) - 1
        return epoch, block, offset - int(starts[block])

    def _epoch(self, epoch: int) -> tuple[Indices, Indices]:
        """Return the epoch's permutation of shards, and the position at which each block starts."""
        if epoch not in self._epochs:
            permuted = permutation(self._seed, f"{self._purpose}/shards", epoch, len(self._sizes))
            ends = np.cumsum(self._sizes[permuted])
            starts = np.concatenate([[0], ends[self._block_shards - 1 : -1 : self._block_shards]])
            _drop_oldest(self._epochs, 1)
            self._epochs[epoch] = permuted, starts
        return self._epochs[epoch]

    def _block(self, epoch: int, block: int) -> Indices:
        """Return the samples of one block in the order in which they are read."""
        if (epoch, block) not in self._blocks:
            permuted, _ = self._epoch(epoch)
            first = block * self._block_shards
            members = permuted[first : first + self._block_shards]
            samples = np.concatenate(
                [np.arange(self._sizes[s], dtype=np.int64) + self._firsts[s] for s in members]
            )
            purpose = f"{self._purpose}/block/{block}"
            shuffled = samples[permutation(self._seed, purpose, epoch, len(samples))]
            _drop_oldest(self._blocks, 3)
            self._blocks[epoch, block] = shuffled
        return self._blocks[epoch, block]


class PartitionedOrder:
    """An order in which each partition owns some shards and fills fixed rows of every batch.

    With as many partitions as nodes, a node reads only its own part of the dataset; with fewer
    nodes, each reads several parts. The batches are the same for any number of nodes. Each sample
    occurs once in an epoch of its partition; partitions differ in size by at most one shard.
    """

    def __init__(self, seed: int, shard_samples: Sequence[int], block_shards: int, partitions: int):
        sizes = np.asarray(shard_samples, dtype=np.int64)
        if len(sizes) < partitions:
            raise GanscaleError(
                f"data.partitions={partitions}: the dataset has only {len(sizes)} shards; "
                "use fewer partitions or pack with fewer --samples-per-shard",
                every_rank=True,
            )
        # Deal out the shards by size, back and forth, to keep the partitions about equal.
        dealt = np.argsort(-sizes, kind="stable")
        place = np.arange(len(sizes)) % (2 * partitions)
        owner = np.where(place < partitions, place, 2 * partitions - 1 - place)
        self._parts = [
            ShuffledOrder(seed, sizes, block_shards, np.sort(dealt[owner == p]), f"order/part{p}")
            for p in range(partitions)
        ]
        self.samples = int(sizes.sum())

    def batch(self, k: int, batch_size: int, rows: range | None = None) -> Indices:
        """Return the sample indices of global batch `k`, or of some of its rows."""
        rows = rows if rows is not None else range(batch_size)
        share = self._share(batch_size)
        pieces = [
            part.batch(k, share, mine)
            for p, part in enumerate(self._parts)
            if len(mine := _overlap(rows, p * share, share))
        ]
        return np.concatenate(pieces)

    def next_shards(self, k: int, batch_size: int, rows: range) -> list[int]:
        """Return the shards of the next block of each partition that these rows touch."""
        share = self._share(batch_size)
        return [
            shard
            for p, part in enumerate(self._parts)
            if len(mine := _overlap(rows, p * share, share))
            for shard in part.next_shards(k, share, mine)
        ]

    def _share(self, batch_size: int) -> int:
        if batch_size % len(self._parts):
            raise GanscaleError(
                f"train.batch_size={batch_size} is not divisible by "
                f"data.partitions={len(self._parts)}; use a multiple of it",
                every_rank=True,
            )
        return batch_size // len(self._parts)


def _overlap(rows: range, start: int, length: int) -> range:
    """Return the part of `rows` in [start, start + length), counted from `start`."""
    return range(min(max(rows.start - start, 0), length), min(max(rows.stop - start, 0), length))


def _drop_oldest(kept: dict[Any, Any], limit: int) -> None:
    while len(kept) > limit:
        del kept[next(iter(kept))]
