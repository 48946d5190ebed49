"""Which samples make up batch k: a pure function of (seed, shard sizes, k).

Samples are numbered through the whole set, shard after shard. In each epoch the shards are
permuted, every `block_shards` neighbours form a block, and the samples of a block are permuted
together. Nothing is ever as large as the set: an epoch costs a permutation of its shards, a batch
that of the blocks it touches. Each sample comes exactly once an epoch; the batch that crosses an
epoch's end takes its rest from the next.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ganscale.randomness import permutation

Indices = NDArray[np.int64]


class Order:
    """The endless sequence of sample indices of one run."""

    def __init__(self, seed: int, shard_samples: Sequence[int], block_shards: int):
        self._seed = seed
        self._sizes = np.asarray(shard_samples, dtype=np.int64)
        self._firsts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        self._block_shards = block_shards
        self.samples = int(self._sizes.sum())
        # A batch touches one or two epochs and a few neighbouring blocks.
        self._epoch = lru_cache(maxsize=2)(self._compute_epoch)
        self._block = lru_cache(maxsize=4)(self._compute_block)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_epoch", "_block")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._compute_epoch)
        self._block = lru_cache(maxsize=4)(self._compute_block)

    def batch(self, k: int, batch_size: int, rows: range | None = None) -> Indices:
        """Sample indices of global batch `k`, or of some of its rows."""
        rows = rows if rows is not None else range(batch_size)
        return self.positions(k * batch_size + rows.start, k * batch_size + rows.stop)

    def positions(self, start: int, stop: int) -> Indices:
        """Sample indices at positions start … stop of the endless sequence."""
        pieces = []
        while start < stop:
            epoch, offset = divmod(start, self.samples)
            _, starts = self._epoch(epoch)
            block = int(np.searchsorted(starts, offset, side="right")) - 1
            first = int(starts[block])
            samples = self._block(epoch, block)
            piece = samples[offset - first : offset - first + stop - start]
            pieces.append(piece)
            start += len(piece)
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)

    def _compute_epoch(self, epoch: int) -> tuple[Indices, Indices]:
        """The epoch's permutation of shards, and the position at which each block starts."""
        shards = permutation(self._seed, "order/shards", epoch, len(self._sizes))
        ends = np.cumsum(self._sizes[shards])
        starts = np.concatenate([[0], ends[self._block_shards - 1 : -1 : self._block_shards]])
        return shards, starts

    def _compute_block(self, epoch: int, block: int) -> Indices:
        """The samples of one block in the order in which they are read."""
        shards, _ = self._epoch(epoch)
        first = block * self._block_shards
        members = shards[first : first + self._block_shards]
        samples = np.concatenate(
            [np.arange(self._sizes[s], dtype=np.int64) + self._firsts[s] for s in members]
        )
        return samples[permutation(self._seed, f"order/block/{block}", epoch, len(samples))]
