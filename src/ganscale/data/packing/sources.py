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
from ganscale.data.packing.file_sources import (
    ShardSource,
    folder_source,
    load_image,
    natural,
    shard_paths,
    tar_source,
    zip_source,
)
from ganscale.data.packing.named_sources import SOURCES, Request
from ganscale.data.packing.remote_sources import download_archive, is_archive
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

    def image(self, i: int) -> Image.Image:
        """Return the decoded image; raise `GanscaleError` naming it if it cannot be read."""


class ArraySource:
    """Grey or RGB images in memory: uint8, (N, H, W) or (N, H, W, 3)."""

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

    def image(self, i: int) -> Image.Image:
        """Return the image."""
        return Image.fromarray(self._images[i])


class DatasetSource:
    """A Hugging Face dataset with an image column, saved to disk or in parquet files."""

    def __init__(self, path: Path, split: str):
        import datasets

        self.description = path.name
        with _explain_errors(path):
            table = _open_table(path)
            if isinstance(table, datasets.DatasetDict):
                if split not in table:
                    raise GanscaleError(f"{path}: no split '{split}'; it has {', '.join(table)}")
                table = table[split]
            self._image = self._column(table, path, ("image", "img", "pixel_values"))
            self._table = table.cast_column(self._image, datasets.Image(decode=False))
            labels = [name for name in ("label", "labels", "fine_label") if name in table.features]
            self._labels: list[Any] = list(table[labels[0]]) if labels else []
        names = getattr(table.features[labels[0]], "names", None) if labels else ()
        self._named = bool(names)
        known = {str(label) for label in self._labels if label is not None}
        self.classes = tuple(names or sorted(known, key=natural))
        self._numbers = {name: i for i, name in enumerate(self.classes)}

    @staticmethod
    def _column(table: Any, path: Path, names: tuple[str, ...]) -> str:
        for name in names:
            if name in table.features:
                return name
        raise GanscaleError(f"{path}: no image column ({', '.join(names)}) among {table.features}")

    def __len__(self) -> int:
        return len(self._table)

    def label(self, i: int) -> int:
        """Return the index into `classes`, or -1 for none."""
        label = self._labels[i] if self._labels else None
        if label is None:
            return -1
        return label if self._named and isinstance(label, int) else self._numbers[str(label)]

    def image(self, i: int) -> Image.Image:
        """Return the decoded image."""
        where = f"{self.description}: row {i}"
        return load_image(lambda: self._content(i), where)

    def _content(self, i: int) -> bytes:
        """Return an image's file; raise `ValueError` if the table holds only its name."""
        row = self._table[i][self._image] or {}
        if row.get("bytes") is not None:
            return bytes(row["bytes"])
        raise ValueError("the table holds only the name of its file")


def _open_table(path: Path) -> Any:
    import datasets

    if path.suffix == ".parquet" or any(path.glob("*.parquet")):
        files = [str(path)] if path.is_file() else sorted(map(str, path.glob("*.parquet")))
        return datasets.Dataset.from_parquet(files)
    return datasets.load_from_disk(str(path))


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
    limit_bytes: int | None = None,
) -> Source:
    """Open the source that a user names: a known dataset, or a path to one of the kinds above.

    `workspace` is a folder for what a source has to keep on disk until it is packed, such as a
    downloaded archive of at most `limit_bytes`.
    """
    if is_archive(name) and is_remote(name):
        return _downloaded(name, split, labels, workspace, limit_bytes)
    path = Path(name)
    if name in SOURCES.names() or (is_custom(name) and not path.exists()):
        return SOURCES.get(name)(Request(split, data_root, download))
    shards = shard_paths(name)
    if shards:
        return ShardSource(name, shards)
    if (
        path.suffix == ".parquet"
        or (path / "dataset_info.json").is_file()
        or (
            path.is_dir()
            and ((path / "dataset_dict.json").is_file() or any(path.glob("*.parquet")))
        )
    ):
        return _dataset_source(path, split)
    if path.is_dir():
        return folder_source(path, labels)
    if not path.is_file():
        raise GanscaleError(
            f"{name}: no such source; give {', '.join(SOURCES.names())}, or the path of a "
            "folder, zip or tar of images, of WebDataset shards, parquet files or a saved dataset"
        )
    return zip_source(path, labels) if zipfile.is_zipfile(path) else tar_source(path, labels)


def _downloaded(
    address: str,
    split: str,
    labels: Path | None,
    workspace: Path | None,
    limit_bytes: int | None,
) -> Source:
    """Download an archive and open it under the name that it has at its address."""
    if workspace is None:
        raise GanscaleError(f"{address}: an archive at an address can only be packed")
    limit = int(Data().cache_gib * 2**30) if limit_bytes is None else limit_bytes
    archive = download_archive(address, workspace, limit)
    source = open_source(str(archive), None, split, False, labels, workspace)
    source.description = PurePosixPath(urlsplit(address).path).name
    return source


def _dataset_source(path: Path, split: str) -> DatasetSource:
    try:
        return DatasetSource(path, split)
    except ImportError:
        raise GanscaleError(
            f"{path}: reading it needs the package datasets: pip install 'ganscale[datasets]'"
        ) from None
