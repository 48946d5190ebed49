"""The order is a pure function: these hold for any set, batch and division of the work."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganscale.data.loader import Ranks
from ganscale.data.order import ShuffledOrder
from ganscale.errors import GanscaleError

SHARDS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
SEEDS = st.integers(0, 5)
BLOCKS = st.integers(1, 5)


@given(SEEDS, SHARDS, BLOCKS)
def test_each_epoch_has_every_sample_once(seed: int, shards: list[int], block: int) -> None:
    order = ShuffledOrder(seed, shards, block)
    n = order.samples
    epochs = [order.positions(e * n, (e + 1) * n).tolist() for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(n))
    if n > 30:
        assert epochs[0] != epochs[1] != list(range(n))


@given(SEEDS, SHARDS, BLOCKS, st.integers(1, 30), st.integers(0, 50))
def test_a_batch_alone_is_the_batch_reached_by_iterating(
    seed: int, shards: list[int], block: int, batch: int, k: int
) -> None:
    walked = ShuffledOrder(seed, shards, block)
    for i in range(k + 1):
        last = walked.batch(i, batch)
    assert np.array_equal(last, ShuffledOrder(seed, shards, block).batch(k, batch))
    assert len(last) == batch


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
