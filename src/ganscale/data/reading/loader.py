"""Loading of one rank's batches, starting at any step."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import prod

import numpy as np
from torch.utils.data import DataLoader, Dataset

from ganscale import devices
from ganscale.config import Data
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.order import Indices, Order
from ganscale.data.reading.prefetch import Prefetcher
from ganscale.data.reading.readers import Batch, Reader
from ganscale.data.reading.workers import GuardedDataset, reraise_errors
from ganscale.data.shards.storage import is_remote

WORKER_CHUNK_BYTES = 1 << 20  # about what a worker process sends at a time
THREADED_BYTES = 1 << 15  # images of at least this decoded size are decoded by threads


class BatchDataset(Dataset[Batch]):
    """A map-style dataset: item k is always this rank's part of global batch k."""

    def __init__(
        self,
        reader: Reader,
        order: Order,
        batch_size: int,
        rows: range,
        fetch: Callable[[int], None] | None = None,
    ):
        """Set up the dataset; `fetch` downloads a shard, to prefetch the next block."""
        self.reader = reader
        self.order = order
        self.batch_size = batch_size
        self.rows = rows
        self._fetch = fetch
        self._prefetcher: Prefetcher | None = None

    def __getitem__(self, k: int | range) -> Batch:
        """Return this rank's rows of global batch `k`, or of several batches concatenated."""
        return self.reader.read(self.indices(k))

    def indices(self, k: int | range) -> Indices:
        """Return the numbers of those samples, and start to prefetch the block after them."""
        wanted = range(k, k + 1) if isinstance(k, int) else k
        if self._fetch is not None:
            if self._prefetcher is None:  # created here, because worker processes inherit no thread
                self._prefetcher = Prefetcher(self._fetch)
            self._prefetcher.want(self.order.next_shards(wanted[-1], self.batch_size, self.rows))
        parts = [self.order.batch(i, self.batch_size, self.rows) for i in wanted]
        return np.concatenate(parts)


def batches(dataset: BatchDataset, first: int, last: int, data: Data) -> Iterator[Batch]:
    """Return this rank's part of batches `first` … `last` - 1."""
    if dataset.reader.in_memory or not data.workers:
        return (_pin(dataset[k]) for k in range(first, last))
    if _image_bytes(data) >= THREADED_BYTES:
        return _decode_with_threads(dataset, first, last, data.workers)
    return _decode_with_processes(dataset, first, last, data)


def _image_bytes(data: Data) -> int:
    return data.channels * prod(data.size) * data.bits // 8


def _pin(batch: Batch) -> Batch:
    """Move a batch into pinned host memory, from which a GPU copies asynchronously."""
    if not devices.pins_memory() or batch.images.device.type != "cpu":
        return batch
    return Batch(batch.images.pin_memory(), batch.labels.pin_memory())


def _decode_with_threads(
    dataset: BatchDataset, first: int, last: int, workers: int
) -> Iterator[Batch]:
    """Yield batches that threads decode, for large images.

    Those spend their time in the decoder, which releases the GIL; worker processes would have to
    copy each batch once more to send it.
    """
    with ThreadPoolExecutor(workers, "decode") as pool:
        # The order is not thread-safe, so only decoding is done in the threads.
        batches = (pool.submit(dataset.reader.read, dataset.indices(k)) for k in range(first, last))
        pending = deque(islice(batches, 2 * workers))
        try:
            while pending:
                batch = pending.popleft().result()
                pending.extend(islice(batches, 1))
                yield _pin(batch)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _decode_with_processes(
    dataset: BatchDataset, first: int, last: int, data: Data
) -> Iterator[Batch]:
    """Yield batches that worker processes decode, several at a time if they are small.

    Sending a tensor to another process costs the same for one kilobyte as for a thousand.
    """
    size = len(dataset.rows)
    chunk = max(1, WORKER_CHUNK_BYTES // (size * _image_bytes(data)))
    loader = DataLoader(
        GuardedDataset(dataset),
        batch_size=None,
        sampler=[range(k, min(k + chunk, last)) for k in range(first, last, chunk)],
        num_workers=data.workers,
        pin_memory=devices.pins_memory(),
    )
    for images, labels in reraise_errors(loader):
        yield from map(Batch, images.split(size), labels.split(size))


def shard_prefetcher(data: Data, images: ImageSet) -> Callable[[int], None] | None:
    """Return the function that prefetches a shard, or None if all shards are on this node."""
    names = (shard.name for manifest in images.manifests for shard in manifest.shards)
    remote = is_remote(data.path) or any(map(is_remote, names))
    return images.fetch if remote and not data.mixture else None
