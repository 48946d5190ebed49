"""Sources of images for packing: arrays, files, shards, and datasets of other libraries.

A source is a list of images that any process can read in any order, with `len(source)`,
`source.label(i)` (-1 for none) and `source.image(i)`. Packing processes receive a pickled copy of
the source and open its files themselves.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from ganscale.config import Data
from ganscale.data.arrays import AnyImage
from ganscale.data.packing.file_sources import (
    IMAGE_SUFFIXES,
    ShardSource,
    folder_source,
    load_image,
    natural,
    shard_paths,
    tar_source,
    zip_source,
)
from ganscale.data.packing.hub_source import hub_source, is_hub_dataset
from ganscale.data.packing.named_sources import SOURCES, Request
from ganscale.data.packing.parquet_source import (
    ParquetSource,
    find_columns,
    has_parquet,
    parquet_files,
)
from ganscale.data.packing.remote_sources import download_archive
from ganscale.data.shards.storage import is_remote
from ganscale.errors import GanscaleError
from ganscale.registry import is_custom


class Source(Protocol):
    """Images with labels, in a fixed order."""

    description: str
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of images."""

    def label(self, i: int) -> int:
        """Return the index into `classes`, or -1 for none."""

    def image(self, i: int) -> AnyImage:
        """Return the decoded image: a picture, or uint8 or uint16 (height, width, channels).

        Raises `GanscaleError` naming it if it cannot be read.
        """


class ArraySource:
    """Images in memory: uint8 or uint16, (N, H, W) or (N, H, W, C)."""

    def __init__(
        self,
        description: str,
        images: np.ndarray,
        labels: np.ndarray,
        classes: tuple[str, ...] | None = None,
    ):
        self.description = description
        self.classes = classes or tuple(str(c) for c in range(int(labels.max()) + 1))
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        return len(self._images)

    def label(self, i: int) -> int:
        """Return the index into `classes`."""
        return int(self._labels[i])

    def image(self, i: int) -> AnyImage:
        """Return the image."""
        image = self._images[i]
        is_picture = image.dtype == np.uint8 and image.shape[2:] in ((), (3,))
        return Image.fromarray(image) if is_picture else np.atleast_3d(image)


class DatasetSource:
    """A Hugging Face dataset with an image column, saved to disk."""

    def __init__(self, path: Path, split: str, image_column: str | None):
        import datasets

        self.description = path.name
        with _explain_errors(path):
            table = datasets.load_from_disk(str(path))
            if isinstance(table, datasets.DatasetDict):
                if split not in table:
                    raise GanscaleError(f"{path}: no split '{split}'; it has {', '.join(table)}")
                table = table[split]
            columns = find_columns(path.name, table.features.arrow_schema, image_column)
            self._image = columns.image
            self._table = table.cast_column(self._image, datasets.Image(decode=False))
            self._labels: list[Any] = list(table[columns.label]) if columns.label else []
        self._named = bool(columns.names)
        known = {str(label) for label in self._labels if label is not None}
        self.classes = columns.names or tuple(sorted(known, key=natural))
        self._numbers = {name: i for i, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self._table)

    def label(self, i: int) -> int:
        """Return the index into `classes`, or -1 for none."""
        label = self._labels[i] if self._labels else None
        if label is None:
            return -1
        return label if self._named and isinstance(label, int) else self._numbers[str(label)]

    def image(self, i: int) -> AnyImage:
        """Return the decoded image."""
        where = f"{self.description}: row {i}"
        return load_image(lambda: self._content(i), where)

    def _content(self, i: int) -> bytes:
        """Return an image's file; raise `ValueError` if the table holds only its name."""
        row = self._table[i][self._image] or {}
        if row.get("bytes") is not None:
            return bytes(row["bytes"])
        raise ValueError("the table holds only the name of its file")


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Turn whatever Arrow and its readers raise for a damaged or unfit file into one message."""
    try:
        yield
    except GanscaleError:
        raise
    except Exception as error:
        raise GanscaleError(
            f"{path}: not a readable dataset ({type(error).__name__}: {str(error)[:200]})"
        ) from None


def open_source(
    name: str,
    data_root: Path | None = None,
    split: str = "train",
    download: bool = False,
    labels: Path | None = None,
    workspace: Path | None = None,
    image_column: str | None = None,
    limit_bytes: int | None = None,
) -> Source:
    """Open the source that a user names: a known dataset, a path to one of the kinds above, or an
    address.

    `workspace` is a folder for what a source has to keep on disk until it is packed, such as a
    downloaded archive of at most `limit_bytes`; an address and parquet files need one.
    """
    path = Path(name)
    if is_remote(name):
        kept = _required(workspace, name)
        if is_hub_dataset(name):
            return hub_source(name, split, kept, image_column)
        limit = int(Data().cache_gib * 2**30) if limit_bytes is None else limit_bytes
        archive = str(download_archive(name, kept, limit))
        source = open_source(archive, None, split, False, labels, kept, image_column)
        source.description = PurePosixPath(urlsplit(name).path).name
        return source
    if name in SOURCES.names() or (is_custom(name) and not path.exists()):
        return SOURCES.get(name)(Request(split, data_root, download))
    shards = shard_paths(name)
    if shards:
        return ShardSource(name, shards)
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        return _dataset_source(path, split, image_column)
    if path.suffix == ".parquet" or (path.is_dir() and has_parquet(path)):
        files = parquet_files(path, split)
        return ParquetSource(path.name, files, _required(workspace, name), image_column)
    if path.is_dir():
        return folder_source(path, labels)
    if not path.is_file():
        raise GanscaleError(
            f"{name}: no such source; give {', '.join(SOURCES.names())}, the path of a folder, zip "
            "or tar of images, of WebDataset shards, parquet files or a saved dataset, or the "
            "address of an archive or a Hugging Face dataset"
        )
    if zipfile.is_zipfile(path):
        return zip_source(path, labels)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise GanscaleError(f"{name}: one image; give the folder that it lies in")
    return tar_source(path, labels, workspace)


def _required(workspace: Path | None, name: str) -> Path:
    if workspace is None:
        raise GanscaleError(
            f"{name}: neither a folder, zip or tar of image files nor packed, so it can only be "
            "packed (`ganscale pack`) or trained on: "
            f"ganscale train configs/folder_dcgan64.yaml data.path={name}"
        )
    return workspace


def _dataset_source(path: Path, split: str, image_column: str | None) -> DatasetSource:
    try:
        return DatasetSource(path, split, image_column)
    except ImportError:
        raise GanscaleError(
            f"{path}: reading it needs the package datasets: pip install 'ganscale[datasets]'"
        ) from None
