"""Batches of a run for one rank, from any step on."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ganscale.config import Data
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.order import Indices, Order
from ganscale.data.reading.prefetch import Prefetcher
from ganscale.data.reading.readers import Batch, Reader, ResidentReader
from ganscale.data.reading.workers import Guarded, unguarded
from ganscale.data.shards.storage import is_remote

HANDED_OVER_BYTES = 1 << 20  # about what a worker process gives at a time
THREADED_BYTES = 1 << 15  # decoded images from this size on are decoded by threads


class BatchDataset(Dataset[Batch]):
    """Map-style: item k is this rank's part of global batch k, whoever asks and when."""

    def __init__(
        self,
        reader: Reader,
        order: Order,
        batch_size: int,
        rows: range,
        fetch: Callable[[int], None] | None = None,
    ):
        """`fetch` brings a shard onto this node; with it the next block is fetched ahead."""
        self.reader = reader
        self.order = order
        self.batch_size = batch_size
        self.rows = rows
        self._fetch = fetch
        self._prefetcher: Prefetcher | None = None

    def __getitem__(self, k: int | range) -> Batch:
        """This rank's rows of global batch `k`, or those of several batches one after another."""
        return self.reader.read(self.indices(k))

    def indices(self, k: int | range) -> Indices:
        """Which samples those are; has the next block fetched."""
        wanted = range(k, k + 1) if isinstance(k, int) else k
        if self._fetch is not None:
            if self._prefetcher is None:  # a thread does not cross into a worker process
                self._prefetcher = Prefetcher(self._fetch)
            self._prefetcher.want(self.order.next_shards(wanted[-1], self.batch_size, self.rows))
        parts = [self.order.batch(i, self.batch_size, self.rows) for i in wanted]
        return np.concatenate(parts)


def batches(dataset: BatchDataset, first: int, last: int, data: Data) -> Iterator[Batch]:
    """This rank's part of batches first … last - 1."""
    if isinstance(dataset.reader, ResidentReader) or not data.workers:
        return (_pinned(dataset[k]) for k in range(first, last))
    if data.channels * data.resolution**2 >= THREADED_BYTES:
        return _decoded_by_threads(dataset, first, last, data.workers)
    return _decoded_by_processes(dataset, first, last, data)


def _pinned(batch: Batch) -> Batch:
    """Images in host memory that a GPU copies from by itself."""
    if not torch.cuda.is_available() or batch.images.is_cuda:
        return batch
    return Batch(batch.images.pin_memory(), batch.labels)


def _decoded_by_threads(
    dataset: BatchDataset, first: int, last: int, workers: int
) -> Iterator[Batch]:
    """Batches from threads: large images spend their time in the decoder, which needs no Python.

    Worker processes would copy each batch once more to hand it over.
    """
    with ThreadPoolExecutor(workers, "decode") as pool:
        # The order is not for several threads; decoding is.
        batches = (pool.submit(dataset.reader.read, dataset.indices(k)) for k in range(first, last))
        ahead = deque(islice(batches, 2 * workers))
        try:
            while ahead:
                batch = ahead.popleft().result()
                ahead.extend(islice(batches, 1))
                yield _pinned(batch)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decoded_by_processes(
    dataset: BatchDataset, first: int, last: int, data: Data
) -> Iterator[Batch]:
    """Batches from worker processes, several at a time where they are small.

    Handing a tensor to another process costs the same for one kilobyte and for a thousand.
    """
    size = len(dataset.rows)
    pixels = size * data.channels * data.resolution**2
    together = max(1, HANDED_OVER_BYTES // pixels)
    loader = DataLoader(
        Guarded(dataset),
        batch_size=None,
        sampler=[range(k, min(k + together, last)) for k in range(first, last, together)],
        num_workers=data.workers,
        pin_memory=torch.cuda.is_available(),
    )
    for images, labels in unguarded(loader):
        yield from map(Batch, images.split(size), labels.split(size))


def shard_prefetcher(data: Data, images: ImageSet) -> Callable[[int], None] | None:
    """What fetches shards ahead: nothing where they are on this node already."""
    named = (shard.name for manifest in images.manifests for shard in manifest.shards)
    remote = is_remote(data.path) or any(map(is_remote, named))
    return images.fetch if remote and not data.mixture else None
