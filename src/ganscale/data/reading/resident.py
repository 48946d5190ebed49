"""The reader that fits: decoded once into memory, or decoded again and again from the shards."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganscale.config import Data
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.memory import free_memory
from ganscale.data.reading.readers import Reader, ResidentReader, decode_all
from ganscale.engines.distributed import Ranks
from ganscale.errors import GanscaleError

RESIDENT_SHARE = 0.25  # of the free memory that a set may take before `auto` leaves it on disk
LABEL_BYTES = 8
SHARED_MEMORY = Path("/dev/shm")


def open_reader(
    data: Data, images: ImageSet, ranks: Ranks, device: torch.device
) -> tuple[Reader, str]:
    """The reader that the config asks for, and a line that says which it is and why.

    All ranks open the same kind of reader: the one with the least free memory decides.
    """
    needed = images.samples * int(np.prod(images.image_shape))
    size = f"{images.samples:,} images take {needed / 2**20:,.0f} MiB decoded"
    if data.reader == "indexed":
        return images.reader(), f"indexed reader: {size}, asked for"
    free = min(ranks.gather(free_memory()))
    if data.reader == "auto" and needed >= RESIDENT_SHARE * free:
        return images.reader(), f"indexed reader: {size}, more than a quarter of free memory"
    if needed > free:
        raise GanscaleError(
            f"data.reader=resident: {size}, and {free / 2**20:,.0f} MiB are free; use indexed",
            every_rank=True,
        )
    held = _decoded_once_for_node(images, ranks)
    where = "in host memory"
    if ranks.local_world_size > 1:
        where += f", shared by {ranks.local_world_size} processes of a node"
    on_device = ranks.agree(lambda: _on_device(data, needed, device))[ranks.rank]
    if on_device:
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


def _decoded_once_for_node(images: ImageSet, ranks: Ranks) -> ResidentReader:
    """Local rank 0 decodes into memory that all ranks of the node share."""
    shape = (images.samples, *images.image_shape)
    label_bytes = images.samples * LABEL_BYTES
    memory = _shared_memory(label_bytes + int(np.prod(shape)), ranks)
    labels, pixels = memory[:label_bytes].view(torch.int64), memory[label_bytes:].view(shape)

    def decode() -> None:
        if ranks.local_rank == 0:
            labels.copy_(decode_all(images.reader(), pixels, os.cpu_count() or 1))

    ranks.agree(decode)
    return ResidentReader(pixels, labels)


def _shared_memory(size: int, ranks: Ranks) -> Tensor:
    """`size` bytes that all ranks of a node have in common.

    Local rank 0 makes a file and tells the others its name, which is removed once all have mapped
    it: an end of the run while it decodes, however violent, leaves no memory in use.
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
            return ranks.node, files.enter_context(_file(size)) if first_of_several else None

        named = {node: file for node, file in ranks.agree(make_file) if file is not None}
        ranks.agree(lambda: map_file(named.get(ranks.node)))
    return memory[0]


@contextmanager
def _file(size: int) -> Iterator[str]:
    """A file of that size in memory, or where temporary files are, while it is entered."""
    folder = SHARED_MEMORY
    if not folder.is_dir() or shutil.disk_usage(folder).free < 2 * size:
        folder = Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile(prefix="ganscale-", dir=folder) as file:
        try:
            # Room that is missing shows here, and not as SIGBUS in the middle of decoding.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise GanscaleError(
                f"{folder}: no room for the decoded set, {size / 2**20:,.0f} MiB "
                f"({error.strerror}); use data.reader=indexed"
            ) from None
        yield file.name
