"""The choice of a reader: decode all images once into memory, or each when it is needed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganscale import devices
from ganscale.config import Data
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.memory import free_memory
from ganscale.data.reading.order import Indices
from ganscale.data.reading.readers import (
    READERS,
    TENSOR_TYPES,
    Batch,
    Opening,
    Reader,
    as_supported,
    describe_size,
)
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError

RESIDENT_SHARE = 0.25  # with `auto`, a larger share of the free memory keeps the dataset on disk
LABEL_BYTES = 8
DECODE_CHUNK = 1024  # samples that a thread decodes at a time
SHARED_MEMORY = Path("/dev/shm")


def open_reader(
    data: Data, images: ImageSet, ranks: Ranks, device: torch.device
) -> tuple[Reader, str]:
    """Open the reader that the config asks for; return it and a line that says which and why.

    All ranks open the same kind of reader: the rank with the least free memory decides. Where the
    config asks for a stream, which has no numbers, the choice is that of `auto`.
    """
    opening = Opening(data, images, ranks, device)
    if data.reader != "auto":
        chosen = READERS.get(data.reader)
        if issubclass(chosen, Reader):
            return chosen.open(opening)
    if _bytes_of(images) >= RESIDENT_SHARE * min(ranks.gather(free_memory())):
        size = describe_size(images)
        return images.reader(), f"indexed reader: {size}, more than a quarter of free memory"
    return ResidentReader.open(opening)


@READERS.register("resident")
class ResidentReader(Reader):
    """Reads from one array that holds the whole decoded dataset."""

    in_memory = True

    def __init__(self, images: Tensor, labels: Tensor):
        self._images = images
        self._labels = labels

    @classmethod
    def open(cls, opening: Opening) -> tuple[Reader, str]:
        """Decode the dataset once for each node; raise `GanscaleError` if it does not fit."""
        data, images, ranks, device = opening
        needed, size = _bytes_of(images), describe_size(images)
        free = min(ranks.gather(free_memory()))
        if needed > free:
            raise GanscaleError(
                f"data.reader=resident: {size}, but only {free / 2**20:,.0f} MiB are free; use "
                "data.reader=indexed",
                every_rank=True,
            )
        reader = _decode_once_per_node(images, ranks)
        where = "in host memory"
        if ranks.local_world_size > 1:
            where += f", shared by {ranks.local_world_size} processes per node"
        on_device = ranks.agree(lambda: _fits_on_device(data, needed, device))[ranks.rank]
        if on_device:
            reader, where = reader.to(device), f"in the memory of {device}"
        return reader, f"resident reader: {size}, {where}"

    def to(self, device: torch.device) -> "ResidentReader":
        """Return a reader of the same dataset in a device's memory."""
        return ResidentReader(self._images.to(device), self._labels.to(device))

    def read(self, indices: Indices) -> Batch:
        """Copy the samples out of the array."""
        rows = torch.from_numpy(indices)
        if self._images.device.type != "cpu":
            # From pinned memory: another copy would wait for all that the GPU has yet to do.
            rows = rows.pin_memory() if devices.pins_memory() else rows
            rows = devices.copy_to(rows, self._images.device)
        images = as_supported(self._images).index_select(0, rows).view(self._images.dtype)
        return Batch(images, self._labels.index_select(0, rows))


def decode_all(reader: Reader, images: Tensor, threads: int) -> Tensor:
    """Decode the whole dataset into `images` (N, C, H, W); return the labels (N,), int64."""
    number = len(images)
    labels = torch.empty(number, dtype=torch.int64)

    def fill(start: int) -> None:
        stop = min(start + DECODE_CHUNK, number)
        images[start:stop], labels[start:stop] = reader.read(np.arange(start, stop))

    with ThreadPoolExecutor(threads) as pool:  # the decoder releases the GIL
        list(pool.map(fill, range(0, number, DECODE_CHUNK)))
    return labels


def _bytes_of(images: ImageSet) -> int:
    return images.samples * images.image_bytes


def _fits_on_device(data: Data, needed: int, device: torch.device) -> bool:
    """Return whether the dataset goes into the device's memory."""
    if device.type == "cpu" or data.resident_on == "host":
        return False
    memory = devices.memory_of(device)
    if memory is None:
        return data.resident_on == "device"
    free, _ = memory
    if data.resident_on == "device" and needed > free:
        raise GanscaleError(
            f"data.resident_on=device: the dataset takes {needed / 2**30:.1f} GiB, but only "
            f"{free / 2**30:.1f} GiB of GPU memory are free; use data.resident_on=host"
        )
    return data.resident_on == "device" or needed < RESIDENT_SHARE * free


def _decode_once_per_node(images: ImageSet, ranks: Ranks) -> ResidentReader:
    """Let local rank 0 decode all images into memory that all ranks of the node share."""
    shape = (images.samples, *images.image_shape)
    label_bytes = images.samples * LABEL_BYTES
    memory = _shared_memory(label_bytes + _bytes_of(images), ranks)
    labels = memory[:label_bytes].view(torch.int64)
    pixels = memory[label_bytes:].view(TENSOR_TYPES[images.bits]).view(shape)

    def decode() -> None:
        if ranks.local_rank == 0:
            labels.copy_(decode_all(images.reader(), pixels, os.cpu_count() or 1))

    ranks.agree(decode)
    return ResidentReader(pixels, labels)


def _shared_memory(size: int, ranks: Ranks) -> Tensor:
    """Return `size` bytes of memory that all ranks of a node share.

    Local rank 0 creates a file and sends its name to the others; once all have mapped it, the name
    is removed. So even a run that is killed while it decodes leaves no memory in use.
    """
    memory: list[Tensor] = []

    def map_file(file: str | None) -> None:
        if file is None:
            memory.append(torch.empty(size, dtype=torch.uint8))
        else:
            memory.append(torch.from_file(file, shared=True, size=size, dtype=torch.uint8))

    with ExitStack() as files:

        def make_file() -> tuple[int, str | None]:
            first_of_several = ranks.local_rank == 0 and ranks.local_world_size > 1
            name = files.enter_context(_temporary_file(size)) if first_of_several else None
            return ranks.node, name

        names = {node: name for node, name in ranks.agree(make_file) if name is not None}
        ranks.agree(lambda: map_file(names.get(ranks.node)))
    return memory[0]


@contextmanager
def _temporary_file(size: int) -> Iterator[str]:
    """Create a file of `size` bytes in shared memory, or else in the temporary folder."""
    folder = SHARED_MEMORY
    if not folder.is_dir() or shutil.disk_usage(folder).free < 2 * size:
        folder = Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile(prefix="ganscale-", dir=folder) as file:
        try:
            if hasattr(os, "posix_fallocate"):
                # Without this, a lack of space would show as a SIGBUS in the middle of decoding.
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS and Windows
                file.truncate(size)
        except OSError as error:
            raise GanscaleError(
                f"{folder}: no space for the decoded dataset of {size / 2**20:,.0f} MiB "
                f"({error.strerror}); use data.reader=indexed"
            ) from None
        yield file.name
