"""Orders that combine other orders: datasets mixed by weight, or the classes of one balanced."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ganscale.data.reading.order import Indices, ShuffledOrder

MIXING_SLOTS = 1000  # proportions are accurate to a thousandth


class Stratum(NamedTuple):
    """Samples that training draws equally often, and their share of all samples drawn."""

    members: Indices | range
    """The numbers of the samples in the dataset, ascending."""
    share: float


class MixedOrder:
    """Several orders in fixed proportions, such as datasets with weights or balanced classes.

    A table that repeats says which order fills each position. Hence the number of an order's
    samples before any position follows without iterating.
    """

    def __init__(
        self, orders: Sequence[ShuffledOrder], weights: Sequence[float], offsets: Sequence[int]
    ):
        """Mix `orders` in proportion to `weights`; add `offsets[i]` to the indices of order i."""
        self._orders = orders
        self._offsets = offsets
        self._table, self._before, self._quota = _mixing_table(weights)
        self.samples = sum(order.samples for order in orders)

    def batch(self, k: int, batch_size: int, rows: range | None = None) -> Indices:
        """Return the sample indices of global batch `k`, or of some of its rows."""
        rows = rows if rows is not None else range(batch_size)
        positions = k * batch_size + np.arange(rows.start, rows.stop)
        cycle, slot = np.divmod(positions, len(self._table))
        which = self._table[slot]
        indices = np.empty(len(positions), dtype=np.int64)
        for number, order in enumerate(self._orders):
            mine = which == number
            if mine.any():
                ranks = cycle[mine] * self._quota[number] + self._before[slot[mine]]
                # Positions are consecutive, and so are the positions within each order.
                indices[mine] = order.positions(int(ranks[0]), int(ranks[-1]) + 1)
                indices[mine] += self._offsets[number]
        return indices

    def next_shards(self, k: int, batch_size: int, rows: range) -> list[int]:
        """Return no shards: a mixture reads from too many blocks to prefetch them all."""
        return []


class RenumberedOrder(ShuffledOrder):
    """An order over some of a dataset's samples: index i stands for sample `members[i]`."""

    def __init__(
        self, seed: int, members: Indices, shard_samples: Indices, block_shards: int, purpose: str
    ):
        """Order the samples `members`, ascending numbers; `shard_samples[s]` are in shard s."""
        super().__init__(seed, shard_samples, block_shards, purpose=purpose)
        self._members = members

    def positions(self, start: int, stop: int) -> Indices:
        """Return the sample indices at positions `start` … `stop` - 1 of the endless sequence."""
        return self._members[super().positions(start, stop)]


def class_orders(
    seed: int, shard_labels: Sequence[Indices], classes: int, block_shards: int
) -> list[ShuffledOrder]:
    """Return an order for each class that has samples. They keep 8 bytes per sample in memory."""
    labels = np.concatenate(shard_labels)
    shards = np.repeat(np.arange(len(shard_labels)), [len(part) for part in shard_labels])
    orders: list[ShuffledOrder] = []
    for number in range(classes):
        members = np.flatnonzero(labels == number)
        if len(members):
            sizes = np.bincount(shards[members], minlength=len(shard_labels))
            # Shards without the class would leave its blocks smaller than they should be.
            orders.append(
                RenumberedOrder(seed, members, sizes[sizes > 0], block_shards, f"class{number}")
            )
    return orders


def mixing_shares(weights: Sequence[float]) -> list[float]:
    """Return the exact share of each order in a `MixedOrder` with these weights; they sum to 1."""
    _, _, quota = _mixing_table(weights)
    shares: list[float] = (quota / quota.sum()).tolist()
    return shares


def _mixing_table(weights: Sequence[float]) -> tuple[Indices, Indices, Indices]:
    """Return which order fills each slot of the cycle, its slots before that, and the quotas."""
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    slots = max(MIXING_SLOTS, len(share))
    quota = np.maximum(np.floor(share * slots).astype(np.int64), 1)
    for number in np.argsort(-(share * slots - quota), kind="stable")[
        : max(slots - quota.sum(), 0)
    ]:
        quota[number] += 1
    which = np.repeat(np.arange(len(share)), quota)
    before = np.concatenate([np.arange(q) for q in quota])
    # Spread each order's slots evenly over the cycle.
    spread = np.argsort((before + 0.5) / quota[which], kind="stable")
    return which[spread], before[spread], quota
