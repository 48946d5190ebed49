"""Which samples make up batch k: a pure function of (seed, what is in the set, k).

Samples are numbered through the whole set, shard after shard. In each epoch the shards are
permuted, every `block_shards` neighbours form a block, and the samples of a block are permuted
together. Nothing is ever as large as the set: an epoch costs a permutation of its shards, a batch
that of the blocks it touches. Each sample comes exactly once an epoch; the batch that crosses an
epoch's end takes its rest from the next.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ganscale.errors import GanscaleError
from ganscale.randomness import permutation

Indices = NDArray[np.int64]


class Order(Protocol):
    """The endless sequence of global batches of one run."""

    samples: int
    """Samples of an epoch."""

    def batch(self, k: int, batch_size: int, rows: range | None = None) -> Indices:
        """Sample indices of global batch `k`, or of some of its rows."""

    def next_shards(self, k: int, batch_size: int, rows: range) -> list[int]:
        """Shards of the block that follows the last sample of these rows, to fetch ahead."""


class ShuffledOrder:
    """One endless sequence of some shards' samples, epoch after epoch."""

    def __init__(
        self,
        seed: int,
        shard_samples: Sequence[int] | Indices,
        block_shards: int,
        shards: Indices | None = None,
        purpose: str = "order",
    ):
        """Of all shards, or only of those numbered in `shards`; `purpose` tells streams apart."""
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
        """Sample indices of global batch `k`, or of some of its rows."""
        rows = rows if rows is not None else range(batch_size)
        return self.positions(k * batch_size + rows.start, k * batch_size + rows.stop)

    def positions(self, start: int, stop: int) -> Indices:
        """Sample indices at positions start … stop of the endless sequence."""
        pieces = []
        while start < stop:
            epoch, block, offset = self._locate(start)
            samples = self._block(epoch, block)
            piece = samples[offset : offset + stop - start]
            pieces.append(piece)
            start += len(piece)
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)

    def next_shards(self, k: int, batch_size: int, rows: range) -> list[int]:
        """Shards of the block that follows the last sample of these rows."""
        epoch, block, _ = self._locate(k * batch_size + rows.stop - 1)
        permuted, starts = self._epoch(epoch)
        if block + 1 == len(starts):
            permuted, block = self._epoch(epoch + 1)[0], -1
        first = (block + 1) * self._block_shards
        shards: list[int] = self._shards[permuted[first : first + self._block_shards]].tolist()
        return shards

    def _locate(self, position: int) -> tuple[int, int, int]:
        """Epoch, block, and offset in the block."""
        epoch, offset = divmod(position, self.samples)
        _, starts = self._epoch(epoch)
        block = int(np.searchsorted(starts, offset, side="right")) - 1
        return epoch, block, offset - int(starts[block])

    def _epoch(self, epoch: int) -> tuple[Indices, Indices]:
        """The epoch's permutation of shards, and the position at which each block starts."""
        if epoch not in self._epochs:
            permuted = permutation(self._seed, f"{self._purpose}/shards", epoch, len(self._sizes))
            ends = np.cumsum(self._sizes[permuted])
            starts = np.concatenate([[0], ends[self._block_shards - 1 : -1 : self._block_shards]])
            _forget_oldest(self._epochs, 1)
            self._epochs[epoch] = permuted, starts
        return self._epochs[epoch]

    def _block(self, epoch: int, block: int) -> Indices:
        """The samples of one block in the order in which they are read."""
        if (epoch, block) not in self._blocks:
            permuted, _ = self._epoch(epoch)
            first = block * self._block_shards
            members = permuted[first : first + self._block_shards]
            samples = np.concatenate(
                [np.arange(self._sizes[s], dtype=np.int64) + self._firsts[s] for s in members]
            )
            purpose = f"{self._purpose}/block/{block}"
            shuffled = samples[permutation(self._seed, purpose, epoch, len(samples))]
            _forget_oldest(self._blocks, 3)
            self._blocks[epoch, block] = shuffled
        return self._blocks[epoch, block]


class PartitionedOrder:
    """Each partition owns part of the shards and fills its own rows of every batch.

    With as many partitions as nodes, a node reads only its own part of the set; with fewer nodes
    each reads several parts. The batches are the same for any number of nodes. Each sample comes
    once in an epoch of its partition; partitions differ in size by a shard at most.
    """

    def __init__(self, seed: int, shard_samples: Sequence[int], block_shards: int, partitions: int):
        sizes = np.asarray(shard_samples, dtype=np.int64)
        if len(sizes) < partitions:
            raise GanscaleError(
                f"data.partitions={partitions}: the set has only {len(sizes)} shards; "
                "use fewer partitions or pack with fewer --samples-per-shard",
                every_rank=True,
            )
        # Dealt out by size, there and back, so that no partition is much larger than another.
        dealt = np.argsort(-sizes, kind="stable")
        place = np.arange(len(sizes)) % (2 * partitions)
        owner = np.where(place < partitions, place, 2 * partitions - 1 - place)
        self._parts = [
            ShuffledOrder(seed, sizes, block_shards, np.sort(dealt[owner == p]), f"order/part{p}")
            for p in range(partitions)
        ]
        self.samples = int(sizes.sum())

    def batch(self, k: int, batch_size: int, rows: range | None = None) -> Indices:
        """Sample indices of global batch `k`, or of some of its rows."""
        rows = rows if rows is not None else range(batch_size)
        share = self._share(batch_size)
        pieces = [
            part.batch(k, share, mine)
            for p, part in enumerate(self._parts)
            if len(mine := _overlap(rows, p * share, share))
        ]
        return np.concatenate(pieces)

    def next_shards(self, k: int, batch_size: int, rows: range) -> list[int]:
        """Shards of the next block of each partition that these rows touch."""
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
    """The part of `rows` in [start, start + length), counted from `start`."""
    return range(min(max(rows.start - start, 0), length), min(max(rows.stop - start, 0), length))


def _forget_oldest(kept: dict[Any, Any], most: int) -> None:
    while len(kept) > most:
        del kept[next(iter(kept))]
