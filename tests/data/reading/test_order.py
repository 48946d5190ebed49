"""The order is a pure function: these hold for any set, batch and division of the work."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganscale.data.reading.mixture import MixedOrder, class_orders
from ganscale.data.reading.order import PartitionedOrder, ShuffledOrder
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError

SHARDS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
SEEDS = st.integers(0, 5)
BLOCKS = st.integers(1, 5)
SETS = ([10, 20], [10], [5] * 6)


@settings(deadline=None)  # a busy machine
@given(SEEDS, SHARDS, BLOCKS)
def test_each_epoch_has_every_sample_once(seed: int, shards: list[int], block: int) -> None:
    order = ShuffledOrder(seed, shards, block)
    n = order.samples
    epochs = [order.positions(e * n, (e + 1) * n).tolist() for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(n))
    if n > 30:
        assert epochs[0] != epochs[1] != list(range(n))


@settings(deadline=None)  # a busy machine
@given(SEEDS, SHARDS, BLOCKS, st.integers(1, 30), st.integers(0, 50))
def test_a_batch_alone_is_the_batch_reached_by_iterating(
    seed: int, shards: list[int], block: int, batch: int, k: int
) -> None:
    walked = ShuffledOrder(seed, shards, block)
    for i in range(k + 1):
        last = walked.batch(i, batch)
    assert np.array_equal(last, ShuffledOrder(seed, shards, block).batch(k, batch))
    assert len(last) == batch


@settings(deadline=None)  # a busy machine
@given(SEEDS, SHARDS, BLOCKS, st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), SEEDS)
def test_ranks_and_micro_batches_divide_the_same_batch(
    seed: int, shards: list[int], block: int, each: int, world: int, accumulation: int, k: int
) -> None:
    batch = each * world * accumulation
    order = ShuffledOrder(seed, shards, block)
    whole = order.batch(k, batch)
    parts = []
    for rank in range(world):
        rows = Ranks(rank, world).rows(batch, accumulation)
        size = len(rows) // accumulation
        parts += [
            order.batch(k, batch, range(rows.start + a * size, rows.start + (a + 1) * size))
            for a in range(accumulation)
        ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_batch_over_an_epochs_end_goes_on_in_the_next() -> None:
    order = ShuffledOrder(0, [5, 5], 2)
    batch = order.batch(1, 7)  # positions 7 … 13 of epochs of 10
    assert np.array_equal(batch[:3], order.positions(7, 10))
    assert np.array_equal(batch[3:], order.positions(10, 14))


def test_neighbours_come_from_few_shards() -> None:
    order = ShuffledOrder(0, [100] * 50, 4)
    shards = order.positions(0, 400) // 100
    assert len(set(shards.tolist())) == 4
    assert len(set(shards[:40].tolist())) == 4  # mixed, not one after the other


def test_a_rank_refuses_what_does_not_divide() -> None:
    with pytest.raises(GanscaleError, match="multiple of 6"):
        Ranks(0, 3).rows(16, 2)


def test_it_travels_to_worker_processes() -> None:
    order = ShuffledOrder(1, [4, 4], 1)
    assert np.array_equal(pickle.loads(pickle.dumps(order)).batch(3, 5), order.batch(3, 5))


@settings(max_examples=1, deadline=None)
@given(st.just(10**12))
def test_memory_does_not_grow_with_the_set(step: int) -> None:
    """10¹⁰ samples in 10⁶ shards, from any step."""
    tracemalloc.start()
    order = ShuffledOrder(0, [10_000] * 10**6, 8)
    assert len(order.batch(step, 8)) == 8
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 2**20


@settings(deadline=None)  # a busy machine
@given(SEEDS, st.lists(st.integers(1, 30), min_size=6, max_size=12), BLOCKS, st.integers(1, 6))
def test_each_partition_has_its_samples_once_and_its_own_rows(
    seed: int, shards: list[int], block: int, partitions: int
) -> None:
    order = PartitionedOrder(seed, shards, block, partitions)
    owner = np.repeat(np.arange(len(shards)), shards)
    touched: list[set[int]] = []
    seen: list[int] = []
    for p in range(partitions):
        rows = range(p * 2, p * 2 + 2)
        mine = [order.batch(k, 2 * partitions, rows) for k in range(3 * sum(shards))]
        stream = np.concatenate(mine)
        touched.append(set(owner[stream].tolist()))
        size = sum(shards[s] for s in touched[-1])
        assert sorted(stream[:size].tolist()) == sorted(set(stream.tolist()))
        seen += stream[:size].tolist()
    assert sorted(seen) == list(range(sum(shards)))
    assert sum(map(len, touched)) == len(shards)  # no shard in two partitions


@settings(deadline=None)  # a busy machine
@given(SEEDS, BLOCKS, st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(0, 9))
def test_partitions_do_not_depend_on_the_number_of_processes(
    seed: int, block: int, world: int, k: int
) -> None:
    order = PartitionedOrder(seed, [7] * 9, block, 3)
    whole = order.batch(k, 24)
    parts = [order.batch(k, 24, Ranks(rank, world).rows(24)) for rank in range(world)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_partition_needs_a_shard() -> None:
    with pytest.raises(GanscaleError, match="only 2 shards"):
        PartitionedOrder(0, [5, 5], 1, 3)


@settings(deadline=None)  # a busy machine
@given(SEEDS, st.integers(1, 12), st.integers(0, 30), st.sampled_from([1, 2, 4]))
def test_a_mixture_is_pure_and_keeps_its_proportions(
    seed: int, size: int, k: int, world: int
) -> None:
    orders = [ShuffledOrder(seed, part, 2, purpose=f"set{i}") for i, part in enumerate(SETS)]
    mixed = MixedOrder(orders, [3, 1, 1], [0, 30, 40])
    batch = size * world
    whole = mixed.batch(k, batch)
    parts = [mixed.batch(k, batch, Ranks(rank, world).rows(batch)) for rank in range(world)]
    assert np.array_equal(np.concatenate(parts), whole)
    start = mixed.batch(0, 5000)
    share = [
        ((start >= low) & (start < high)).mean() for low, high in ((0, 30), (30, 40), (40, 70))
    ]
    assert share == pytest.approx([0.6, 0.2, 0.2], abs=0.001)
    first = start[start < 30][:30]
    assert sorted(first.tolist()) == list(range(30))  # each sample of a set once in its epoch


def test_balanced_classes_come_equally_often() -> None:
    rng = np.random.default_rng(0)
    labels = [np.where(rng.random(200) < 0.9, 0, rng.integers(0, 4, 200)) for _ in range(5)]
    flat = np.concatenate(labels)
    orders = class_orders(0, labels, 5, 2)  # nothing has class 4
    mixed = MixedOrder(orders, [1.0] * len(orders), [0] * len(orders))
    drawn = flat[np.concatenate([mixed.batch(k, 40) for k in range(100)])]
    assert np.bincount(drawn, minlength=5).tolist() == [1000, 1000, 1000, 1000, 0]


@pytest.mark.parametrize(
    ("before", "after"), [((1, 4), (4, 1)), ((4, 2), (2, 1)), ((2, 1), (8, 2))]
)
def test_restarted_mid_epoch_on_other_processes_the_rest_is_what_was_not_seen(
    before: tuple[int, int], after: tuple[int, int]
) -> None:
    shards, batch, stopped = [13, 40, 27, 33, 47], 16, 4
    epoch = sum(shards) // batch * batch

    def consume(processes: int, accumulation: int, first: int, last: int) -> list[int]:
        seen: list[int] = []
        for rank in range(processes):
            order = ShuffledOrder(3, shards, 2)  # each process computes it for itself
            rows = Ranks(rank, processes).rows(batch, accumulation)
            for k in range(first, last):
                seen += order.batch(k, batch, rows).tolist()
        return seen

    first_part = consume(*before, 0, stopped)
    rest = consume(*after, stopped, epoch // batch)
    assert len(first_part) + len(rest) == epoch
    assert len(set(first_part) | set(rest)) == epoch


def test_the_next_block_is_the_one_that_is_read_next() -> None:
    order = ShuffledOrder(1, [10] * 12, 3)
    for k in range(40):
        upcoming = set(order.next_shards(k, 5, range(5)))
        last_block = (k * 5 + 4) % 120 // 30
        start = (k * 5 + 4) // 120 * 120 + (last_block + 1) * 30
        assert set((order.positions(start, start + 30) // 10).tolist()) == upcoming
