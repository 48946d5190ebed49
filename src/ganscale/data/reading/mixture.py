"""Orders made of orders: several sets by weight, or the classes of one set made equal."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ganscale.data.reading.order import Indices, ShuffledOrder

MIXING_SLOTS = 1000  # proportions are kept to a thousandth


class Stratum(NamedTuple):
    """Samples that training draws equally often, and their share of all that it draws."""

    members: Indices | range
    """Their numbers in the set, ascending."""
    share: float


class MixedOrder:
    """Several orders in fixed proportions: sets of different weight, or classes made equal.

    Which order fills a position is read from a table that repeats, so that the number of its
    samples before any position is known without walking there.
    """

    def __init__(
        self, orders: Sequence[ShuffledOrder], weights: Sequence[float], offsets: Sequence[int]
    ):
        """`offsets` are added to the indices of each order."""
        self._orders = orders
        self._offsets = offsets
        self._table, self._before, self._quota = _mixing_table(weights)
        self.samples = sum(order.samples for order in orders)

    def batch(self, k: int, batch_size: int, rows: range | None = None) -> Indices:
        """Sample indices of global batch `k`, or of some of its rows."""
        rows = rows if rows is not None else range(batch_size)
        positions = k * batch_size + np.arange(rows.start, rows.stop)
        cycle, slot = np.divmod(positions, len(self._table))
        which = self._table[slot]
        indices = np.empty(len(positions), dtype=np.int64)
        for number, order in enumerate(self._orders):
            mine = which == number
            if mine.any():
                ranks = cycle[mine] * self._quota[number] + self._before[slot[mine]]
                # Positions follow one another, so an order's own positions do too.
                indices[mine] = order.positions(int(ranks[0]), int(ranks[-1]) + 1)
                indices[mine] += self._offsets[number]
        return indices

    def next_shards(self, k: int, batch_size: int, rows: range) -> list[int]:
        """None: a mixture reads from too many blocks to fetch them all ahead."""
        return []


class RenumberedOrder(ShuffledOrder):
    """An order over some of a set's samples: position i stands for sample `members[i]`."""

    def __init__(
        self, seed: int, members: Indices, shard_samples: Indices, block_shards: int, purpose: str
    ):
        """`shard_samples[s]` of the members lie in shard s; `members` are in the set's order."""
        super().__init__(seed, shard_samples, block_shards, purpose=purpose)
        self._members = members

    def positions(self, start: int, stop: int) -> Indices:
        """Sample indices at positions start … stop of the endless sequence."""
        return self._members[super().positions(start, stop)]


def class_orders(
    seed: int, shard_labels: Sequence[Indices], classes: int, block_shards: int
) -> list[ShuffledOrder]:
    """An order for each class that has samples. Keeps eight bytes a sample in memory."""
    labels = np.concatenate(shard_labels)
    shards = np.repeat(np.arange(len(shard_labels)), [len(part) for part in shard_labels])
    orders: list[ShuffledOrder] = []
    for number in range(classes):
        members = np.flatnonzero(labels == number)
        if len(members):
            sizes = np.bincount(shards[members], minlength=len(shard_labels))
            # Shards without the class would be empty places in its blocks.
            orders.append(
                RenumberedOrder(seed, members, sizes[sizes > 0], block_shards, f"class{number}")
            )
    return orders


def mixing_shares(weights: Sequence[float]) -> list[float]:
    """Each order's share of a `MixedOrder` of these weights: they add up to 1."""
    _, _, quota = _mixing_table(weights)
    shares: list[float] = (quota / quota.sum()).tolist()
    return shares


def _mixing_table(weights: Sequence[float]) -> tuple[Indices, Indices, Indices]:
    """For each slot of the cycle: which order, and how many of its slots lie before; the quotas."""
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    slots = max(MIXING_SLOTS, len(share))
    quota = np.maximum(np.floor(share * slots).astype(np.int64), 1)
    for number in np.argsort(-(share * slots - quota), kind="stable")[
        : max(slots - quota.sum(), 0)
    ]:
        quota[number] += 1
    which = np.repeat(np.arange(len(share)), quota)
    before = np.concatenate([np.arange(q) for q in quota])
    # Each order's slots are spread evenly over the cycle.
    spread = np.argsort((before + 0.5) / quota[which], kind="stable")
    return which[spread], before[spread], quota
