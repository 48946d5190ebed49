"""Batches of a run for one rank, from any step on, through whichever reader fits."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ganscale.config import Data
from ganscale.data.manifest import Manifest
from ganscale.data.order import Order
from ganscale.data.reader import Batch, IndexedReader, Reader, ResidentReader, decode_all
from ganscale.errors import GanscaleError

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

    def __init__(self, reader: Reader, order: Order, batch_size: int, rows: range):
        self.reader = reader
        self.order = order
        self.batch_size = batch_size
        self.rows = rows

    def __getitem__(self, k: int) -> Batch:
        """This rank's rows of global batch `k`."""
        return self.reader.read(self.order.batch(k, self.batch_size, self.rows))


def batches(dataset: BatchDataset, first: int, last: int, data: Data) -> Iterator[Batch]:
    """This rank's part of batches first … last - 1."""
    if isinstance(dataset.reader, ResidentReader):
        return (dataset[k] for k in range(first, last))
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(first, last),
        num_workers=data.workers,
        pin_memory=torch.cuda.is_available(),
    )
    return iter(loader)


def open_reader(data: Data, manifest: Manifest, ranks: Ranks) -> tuple[Reader, str]:
    """The reader that the config asks for, and a line that says which it is and why."""
    indexed = IndexedReader(manifest, data)
    needed = manifest.samples * int(np.prod(manifest.image_shape))
    free = psutil.virtual_memory().available
    fits = needed < RESIDENT_SHARE * free
    size = f"{manifest.samples:,} images take {needed / 2**20:,.0f} MiB decoded"
    if data.reader == "indexed" or (data.reader == "auto" and not fits):
        why = "asked for" if data.reader == "indexed" else "more than a quarter of free memory"
        return indexed, f"indexed reader: {size}, {why}"
    if needed > free:
        raise GanscaleError(
            f"data.reader=resident: {size}, and {free / 2**20:,.0f} MiB are free; use indexed"
        )
    if ranks.local_world_size == 1:
        return _decoded_alone(indexed, manifest), f"resident reader: {size}"
    return _decoded_once_for_node(indexed, manifest, ranks), (
        f"resident reader: {size}, shared by {ranks.local_world_size} processes of a node"
    )


def _decoded_alone(reader: IndexedReader, manifest: Manifest) -> ResidentReader:
    images = torch.empty((manifest.samples, *manifest.image_shape), dtype=torch.uint8)
    labels = decode_all(reader, manifest, images, os.cpu_count() or 1)
    return ResidentReader(images, labels)


def _decoded_once_for_node(
    reader: IndexedReader, manifest: Manifest, ranks: Ranks
) -> ResidentReader:
    """Local rank 0 decodes into a file that all ranks of the node map; then its name is removed."""
    shape = (manifest.samples, *manifest.image_shape)
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
            labels = decode_all(reader, manifest, mapped(), os.cpu_count() or 1)
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
