"""What it costs to know a rank's next batch on a large cluster, by order alone.

    python bench/order.py [--json FILE]

1,024 ranks on 128 nodes, 10¹⁰ samples in 10⁶ shards: time and memory to start at a step and to
compute a batch, and the shards that a node touches in an epoch, with and without partitions.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from ganscale.data.reading.order import Order, PartitionedOrder, ShuffledOrder
from ganscale.engines.distributed import Ranks

SHARDS, SAMPLES_A_SHARD = 10**6, 10**4
RANKS, NODES = 1024, 128
BATCH = RANKS * 32
BLOCK_SHARDS = 8
STEPS = (0, 1_000, 10**9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    target = parser.parse_args().json
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes = np.full(SHARDS, SAMPLES_A_SHARD)
    rows = Ranks(rank=700, world_size=RANKS).rows(BATCH)
    figures: dict[str, float] = {}
    for step in STEPS:
        started = time.perf_counter()
        order = ShuffledOrder(0, sizes, BLOCK_SHARDS)
        order.batch(step, BATCH, rows)
        figures[f"start at step {step:,} (s)"] = time.perf_counter() - started
    times = []
    for step in range(10**9 + 1, 10**9 + 200):
        started = time.perf_counter()
        order.batch(step, BATCH, rows)
        times.append(time.perf_counter() - started)
    figures["batch, block known: median (ms)"] = 1000 * float(np.median(times))
    figures["memory over that of the imports (MiB)"] = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    ) / 1024
    figures["shards a node touches an epoch"] = _touched(ShuffledOrder(0, _small(), BLOCK_SHARDS))
    partitioned = PartitionedOrder(0, _small(), BLOCK_SHARDS, NODES)
    figures["… with a partition a node"] = _touched(partitioned)
    for name, figure in figures.items():
        print(f"{name:42} {figure:12,.3f}")
    if target:
        target.write_text(json.dumps(figures, indent=2) + "\n")


def _small() -> list[int]:
    """A set on which a whole epoch can be walked: 4,096 shards of 256 samples."""
    return [256] * 4096


def _touched(order: Order) -> float:
    """The part of all shards that node 0 reads from in an epoch."""
    batch = RANKS
    rows = range(batch // NODES)
    shards: set[int] = set()
    for step in range(order.samples // batch):
        shards.update((order.batch(step, batch, rows) // 256).tolist())
    return len(shards) / len(_small())


if __name__ == "__main__":
    main()
