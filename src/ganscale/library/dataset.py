"""`ganscale.Dataset`: the images of a packed dataset, for any PyTorch program."""

from __future__ import annotations

import os
from collections.abc import Sequence
from operator import index

import numpy as np
import torch.utils.data
from torch import Tensor

from ganscale.config import Data
from ganscale.config.resolution import read_resolution
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.shards.storage import open_storage
from ganscale.errors import GanscaleError


class Dataset(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A packed dataset: item i is image i, (C, H, W), and its label, -1 for none.

    Images are uint8, or uint16 if they were packed with 16 bits.

    `path` is the folder or address of the dataset. If its images differ in size, they are resized
    to `size`: a side in pixels, or height and width. A `torch.utils.data.DataLoader` reads it with
    any number of workers, each batch at once.

    Raises `GanscaleError` if `path` is not a packed dataset, or if a sample is damaged.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, size: int | tuple[int, int] | None = None
    ) -> None:
        location = os.fspath(path)
        manifest = open_storage(location, Data()).manifest()
        if manifest.height is not None and manifest.width is not None:
            wanted: int | tuple[int, int] = (manifest.height, manifest.width)
            if size is not None and read_resolution(size) != read_resolution(wanted):
                raise GanscaleError(
                    f"{location} holds images of {manifest.height}×{manifest.width}: leave size "
                    "out, or pack it again with another"
                )
        elif size is None:
            raise GanscaleError(
                f"{location}: its images differ in size; say to which they are resized, as in "
                f"Dataset({location!r}, size=64)"
            )
        else:
            wanted = size
        data = Data(
            path=location, channels=manifest.channels, bits=manifest.bits, resolution=wanted
        )
        self._images = ImageSet(data)
        self._reader = self._images.reader()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of labels; empty if there are none."""
        return self._images.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return self._images.image_shape

    @property
    def description(self) -> str:
        """Where the images came from."""
        return self._images.description

    def __len__(self) -> int:
        return self._images.samples

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """Return an image and its label; negative numbers count from the end."""
        return self.__getitems__([i])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return several images and their labels, read together, as a DataLoader asks for them."""
        batch = self._reader.read(np.array([self._place(i) for i in numbers], dtype=np.int64))
        images = batch.images.contiguous()
        return list(zip(images, batch.labels.tolist(), strict=True))

    def __repr__(self) -> str:
        channels, height, width = self.image_shape
        of = f" of {len(self.classes)} classes" if self.classes else ""
        shape = f"{channels}×{height}×{width}"
        return f"<Dataset {self.description}: {len(self):,} images, {shape}{of}>"

    def _place(self, i: int) -> int:
        place = index(i)
        place += len(self) if place < 0 else 0
        if not 0 <= place < len(self):
            raise IndexError(f"sample {i} of {len(self):,}")
        return place
