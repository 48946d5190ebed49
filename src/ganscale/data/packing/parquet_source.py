"""Images in parquet files: a column of encoded images, and perhaps one of labels.

Rows of a parquet file can only be read group by group, and packing wants them in any order.
Therefore the images' bytes are first copied, in one pass of bounded memory, into a file beside
which a table says where each image lies; the file is removed when the images are packed. Nothing
in a file is unpickled: pyarrow reads plain values only.
"""

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from ganscale.data.arrays import AnyImage
from ganscale.data.packing.file_sources import (
    MAX_IMAGE_BYTES,
    file_identity,
    load_image,
    natural,
    short_name,
)
from ganscale.data.shards.extras import pip_line
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_descriptor, read_at, read_regular_file, write_atomically

LABELS = ("label", "labels", "class", "fine_label")
SPLITS = ("train", "test", "validation", "valid", "val", "dev")
WORD_END = re.compile(r"[^a-z0-9]+")
ROWS_AT_ONCE = 32
MAX_TABLE_BYTES = 1 << 32


class ParquetFile(NamedTuple):
    """A file of the source, wherever it is."""

    identity: str
    """A text that no other file has, nor this one when it has changed."""
    fetch: Callable[[], AbstractContextManager[Path]]
    """Gives the file, downloaded if need be, for as long as it is read."""


class Columns(NamedTuple):
    """Which columns hold the images and the labels, and the names of the classes."""

    image: str
    label: str | None
    names: tuple[str, ...]
    """Empty if the file does not name them."""


class ParquetSource:
    """The images of some parquet files of one schema."""

    def __init__(
        self,
        description: str,
        files: Sequence[ParquetFile],
        workspace: Path,
        image_column: str | None = None,
    ):
        """Copy the images' bytes into `workspace`, as far as they are not there yet.

        `image_column` is needed only if several columns hold images. Raises `GanscaleError` if a
        file cannot be read or has no such column.
        """
        self.description = description
        workspace.mkdir(parents=True, exist_ok=True)
        with FileLock(workspace / ".lock"):
            parts = [_Part(workspace, description, file, image_column) for file in files]
        self._paths = [part.rows for part in parts]
        self._part = np.repeat(np.arange(len(parts)), [len(part.places) for part in parts])
        self._places = np.concatenate([part.places for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        names = parts[0].names
        known = names or tuple(sorted({*labels.tolist()} - {""}, key=natural))
        self.classes = known if len(known) > 1 else ()
        numbers = {name: i for i, name in enumerate(self.classes)}
        if names:
            numbers = {str(i): i for i in range(len(self.classes))} | numbers
        self._labels = np.array([numbers.get(label, -1) for label in labels.tolist()], np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_descriptors"}

    @cached_property
    def _descriptors(self) -> list[int]:
        return [open_regular_descriptor(path) for path in self._paths]

    def label(self, i: int) -> int:
        """Return the index into `classes`, or -1 for none."""
        return int(self._labels[i])

    def image(self, i: int) -> AnyImage:
        """Return the decoded image."""
        return load_image(lambda: self._content(i), f"{self.description}: row {i}")

    def _content(self, i: int) -> bytes:
        """Return an image's file; raise `ValueError` if the table holds only its name."""
        offset, size = map(int, self._places[i])
        if size < 0:
            raise ValueError("the table holds only the name of its file, or nothing")
        return read_at(self._descriptors[self._part[i]], offset, size)


class _Part:
    """The copied bytes of one file, and where each image lies."""

    def __init__(
        self, workspace: Path, description: str, file: ParquetFile, image_column: str | None
    ):
        place = workspace / short_name(f"{image_column} {file.identity}")
        self.rows = place.with_suffix(".rows")
        table = place.with_suffix(".npz")
        if not table.is_file():
            self._copy(description, file, image_column, table)
        content = np.load(io.BytesIO(read_regular_file(table, MAX_TABLE_BYTES)))
        self.places: NDArray[np.int64] = content["places"]
        """Offset and size of each image, (rows, 2); the size is -1 where there is none."""
        self.labels: NDArray[np.str_] = content["labels"]
        """The label of each image as text; empty where there is none."""
        self.names = tuple(content["names"].tolist())

    def _copy(
        self, description: str, file: ParquetFile, image_column: str | None, table: Path
    ) -> None:
        places: list[tuple[int, int]] = []
        labels: list[str] = []
        with (
            file.fetch() as path,
            _opened(description, path) as opened,
            self.rows.open("wb") as rows,
        ):
            columns = find_columns(description, opened.schema_arrow, image_column)
            for image, label in _rows(opened, columns):
                size = -1 if image is None else len(image)
                if size > MAX_IMAGE_BYTES:
                    raise GanscaleError(f"{description}: row {len(places)} has {size:,} bytes")
                places.append((rows.tell(), size))
                labels.append("" if label is None else str(label))
                rows.write(image or b"")
            rows.flush()
            os.fsync(rows.fileno())
        buffer = io.BytesIO()
        np.savez(
            buffer,
            places=np.array(places, np.int64).reshape(-1, 2),
            labels=np.array(labels, np.str_),
            names=np.array(columns.names, np.str_),
        )
        write_atomically(table, buffer.getvalue())


def _in_place(path: Path) -> ParquetFile:
    return ParquetFile(file_identity(path), partial(_stay, path))


def _stay(path: Path) -> AbstractContextManager[Path]:
    return nullcontext(path)


def has_parquet(folder: Path) -> bool:
    """Return whether there is a parquet file in a folder or below it."""
    return any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))


def parquet_files(path: Path, split: str) -> list[ParquetFile]:
    """Return a parquet file, or those of a split below a folder, to be read where they are."""
    if path.is_file():
        return [_in_place(path)]
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*.parquet"))
    return [_in_place(path / name) for name in files_of_split(str(path), names, split)]


def files_of_split(address: str, files: Sequence[str], split: str) -> list[str]:
    """Return the parquet files of a split, whose name is a part of their paths.

    Files that name no split at all are those of `train`.
    """
    parquet = [file for file in files if file.endswith(".parquet")]
    splits = {file: next(filter(_words(file).__contains__, SPLITS), None) for file in parquet}
    found = [file for file in parquet if split in _words(file)]
    if not found and split == "train" and not any(splits.values()):
        found = parquet
    if not found:
        known = sorted({name for name in splits.values() if name})
        raise GanscaleError(
            f"{address}: no split '{split}'; its files name {', '.join(known) or 'none'} "
            "(data.split=NAME; ganscale pack: --split NAME)"
        )
    folders = {str(PurePosixPath(file).parent) for file in found}
    if len(folders) > 1:
        examples = ", ".join(sorted(folders)[:10])
        raise GanscaleError(
            f"{address}: several folders hold the split '{split}' ({examples}); add one to the "
            f"address: {address.rstrip('/')}/FOLDER"
        )
    return found


def _words(file: str) -> list[str]:
    return WORD_END.split(file.lower())


def find_columns(description: str, schema: Any, image_column: str | None) -> Columns:
    """Return the columns of an Arrow schema that hold the images and the labels.

    Images are a column that Hugging Face's metadata calls so, or a struct with `bytes`, or binary.
    Raises `GanscaleError` if there is none, or if several may be meant and none is named.
    """
    features = _features(schema)
    kinds = {name: str(field.get("_type")) for name, field in features.items()}
    images = [name for name in schema.names if kinds.get(name) == "Image"]
    images = images or [name for name in schema.names if _is_file_struct(schema.field(name).type)]
    images = images or [name for name in schema.names if _is_binary(schema.field(name).type)]
    shown = ", ".join(map(str, schema.names[:20]))
    if image_column is not None:
        kind = schema.field(image_column).type if image_column in schema.names else None
        if kind is None or not (_is_file_struct(kind) or _is_binary(kind)):
            raise GanscaleError(
                f"{description}: the column '{image_column}' holds no images; its columns are "
                f"{shown}"
            )
        images = [image_column]
    if not images:
        raise GanscaleError(
            f"{description}: no column holds images (binary, or a struct with `bytes`); its "
            f"columns are {shown}"
        )
    if len(images) > 1:
        raise GanscaleError(
            f"{description}: several columns hold images ({', '.join(images)}); name one with "
            "data.image_column=NAME (ganscale pack: --image-column NAME)"
        )
    classed = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    labels = [name for name in LABELS if name in schema.names and not _is_nested(schema, name)]
    label = next(iter([*[n for n in labels if n in classed], *classed, *labels]), None)
    names = features.get(label, {}).get("names") if label else None
    return Columns(images[0], label, tuple(map(str, names)) if isinstance(names, list) else ())


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's `datasets` writes of the columns; empty if nothing."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = about["info"]["features"]
        return {name: field for name, field in features.items() if isinstance(field, dict)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _is_file_struct(kind: Any) -> bool:
    """Return whether an Arrow type is Hugging Face's for a file: a struct with `bytes`."""
    from pyarrow import types

    index = kind.get_field_index("bytes") if types.is_struct(kind) else -1
    return index >= 0 and _is_binary(kind.field(index).type)


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_nested(schema: Any, name: str) -> bool:
    from pyarrow import types

    return bool(types.is_nested(schema.field(name).type))


def _rows(opened: Any, columns: Columns) -> Iterator[tuple[bytes | None, Any]]:
    wanted = [columns.image] if columns.label is None else [columns.image, columns.label]
    for batch in opened.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted):
        images = batch.column(columns.image).to_pylist()
        labels: Iterable[Any] = [None] * len(images)
        if columns.label is not None:
            labels = batch.column(columns.label).to_pylist()
        for image, label in zip(images, labels, strict=True):
            yield (image.get("bytes") if isinstance(image, dict) else image), label


@contextmanager
def _opened(description: str, file: Path) -> Iterator[Any]:
    """Open a parquet file; turn whatever pyarrow raises for a damaged one into one message."""
    where = description if file.name == description else f"{description}: {file.name}"
    try:
        from pyarrow import parquet
    except ImportError:
        raise GanscaleError(
            f"{where}: reading parquet files needs pyarrow: {pip_line('hf')}"
        ) from None
    try:
        with parquet.ParquetFile(file) as opened:
            yield opened
    except GanscaleError:
        raise
    except Exception as error:  # pyarrow has many kinds, and OSError for damage among them
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).splitlines()[0] if str(error) else ""
        raise GanscaleError(
            f"{where}: not a readable parquet file ({type(error).__name__}: {reason[:200]})"
        ) from None
