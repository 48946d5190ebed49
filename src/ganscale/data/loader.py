"""Batches of a run for one rank, from any step on, through whichever reader fits."""

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ganscale.config import Data
from ganscale.data.image_set import ImageSet
from ganscale.data.order import Indices, Order
from ganscale.data.prefetch import Prefetcher
from ganscale.data.reader import Batch, Reader, ResidentReader, decode_all
from ganscale.data.storage import is_remote
from ganscale.errors import GanscaleError

HANDED_OVER_BYTES = 1 << 20  # about what a worker process gives at a time
THREADED_BYTES = 1 << 15  # decoded images from this size on are decoded by threads
RESIDENT_SHARE = 0.25  # of the free memory that a set may take before `auto` leaves it on disk


@dataclass(frozen=True)
class Ranks:
    """This process among the others, as far as data is concerned."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    barrier: Callable[[], None] = lambda: None

    def rows(self, batch_size: int, accumulation: int = 1) -> range:
        """The rows of a global batch that are this rank's, whole micro-batches of them."""
        parts = self.world_size * accumulation
        if batch_size % parts:
            raise GanscaleError(
                f"train.batch_size={batch_size} is not divisible by {self.world_size} processes × "
                f"train.accumulation={accumulation}; use a multiple of {parts}",
                every_rank=True,
            )
        part = batch_size // self.world_size
        return range(self.rank * part, (self.rank + 1) * part)


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
        dataset,
        batch_size=None,
        sampler=[range(k, min(k + together, last)) for k in range(first, last, together)],
        num_workers=data.workers,
        pin_memory=torch.cuda.is_available(),
    )
    for images, labels in loader:
        yield from map(Batch, images.split(size), labels.split(size))


def ahead(data: Data, images: ImageSet) -> Callable[[int], None] | None:
    """What fetches shards ahead: nothing where they are on this node already."""
    named = (shard.name for manifest in images.manifests for shard in manifest.shards)
    remote = is_remote(data.path) or any(map(is_remote, named))
    return images.fetch if remote and not data.mixture else None


def open_reader(
    data: Data, images: ImageSet, ranks: Ranks, device: torch.device
) -> tuple[Reader, str]:
    """The reader that the config asks for, and a line that says which it is and why."""
    needed = images.samples * int(np.prod(images.image_shape))
    free = psutil.virtual_memory().available
    fits = needed < RESIDENT_SHARE * free
    size = f"{images.samples:,} images take {needed / 2**20:,.0f} MiB decoded"
    if data.reader == "indexed" or (data.reader == "auto" and not fits):
        why = "asked for" if data.reader == "indexed" else "more than a quarter of free memory"
        return images.reader(), f"indexed reader: {size}, {why}"
    if needed > free:
        raise GanscaleError(
            f"data.reader=resident: {size}, and {free / 2**20:,.0f} MiB are free; use indexed"
        )
    if ranks.local_world_size == 1:
        held, where = _decoded_alone(images), "in host memory"
    else:
        held = _decoded_once_for_node(images, ranks)
        where = f"in host memory, shared by {ranks.local_world_size} processes of a node"
    if _on_device(data, needed, device):
        held, where = held.to(device), f"in the memory of {device}"
    return held, f"resident reader: {size}, {where}"


def _on_device(data: Data, needed: int, device: torch.device) -> bool:
    """Whether the set goes into the device's memory."""
    if device.type != "cuda" or data.resident_on == "host":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    if data.resident_on == "device" and needed > free:
        raise GanscaleError(
            f"data.resident_on=device: the set takes {needed / 2**30:.1f} GiB, and "
            f"{free / 2**30:.1f} GiB of GPU memory are free; use host"
        )
    return data.resident_on == "device" or needed < RESIDENT_SHARE * free


def _decoded_alone(images: ImageSet) -> ResidentReader:
    pixels = torch.empty((images.samples, *images.image_shape), dtype=torch.uint8)
    labels = decode_all(images.reader(), pixels, os.cpu_count() or 1)
    return ResidentReader(pixels, labels)


def _decoded_once_for_node(images: ImageSet, ranks: Ranks) -> ResidentReader:
    """Local rank 0 decodes into a file that all ranks of the node map; then its name is removed."""
    shape = (images.samples, *images.image_shape)
    size = int(np.prod(shape))
    port = os.environ.get("MASTER_PORT", "0")
    # The parent (the node's launcher) and the port tell this run from others on the node.
    folder = _shared_memory_folder(size) / f"ganscale-{os.getppid()}-{port}"

    def mapped() -> Tensor:
        file = str(folder / "images")
        return torch.from_file(file, shared=True, size=size, dtype=torch.uint8).view(shape)

    try:
        if ranks.local_rank == 0:
            folder.mkdir(mode=0o700)
            labels = decode_all(images.reader(), mapped(), os.cpu_count() or 1)
            np.save(folder / "labels.npy", labels.numpy())
        ranks.barrier()
        resident = ResidentReader(mapped(), torch.from_numpy(np.load(folder / "labels.npy")))
        ranks.barrier()
    finally:
        if ranks.local_rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    return resident


def _shared_memory_folder(size: int) -> Path:
    """/dev/shm where it has room, else the folder for temporary files."""
    shm = Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).free > 2 * size:
        return shm
    return Path(tempfile.gettempdir())
