"""What tells, without decoding an image, whether a source has changed since it was packed."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from ganscale.data.packing.file_sources import IMAGE_SUFFIXES, walk
from ganscale.data.packing.hub_source import hub_state, is_hub_dataset
from ganscale.data.packing.remote_sources import remote_state
from ganscale.data.shards.storage import expand_braces, is_remote
from ganscale.errors import GanscaleError

OTHER_SUFFIXES = frozenset({".arrow", ".npy", ".parquet", ".tar"})


def source_state(location: str) -> str:
    """Return a text that changes whenever the images of a source may have changed.

    For files it is a checksum of their names, sizes and modification times; for a folder, of all
    images and tables below it. For an address it is what its server says of the file, and for a
    dataset on the hub its commit. Raises `OSError` if a file or folder cannot be read, and
    `GanscaleError` if a server does not answer.
    """
    if is_hub_dataset(location):
        return hub_state(location)
    if is_remote(location):
        return remote_state(location)
    digest = hashlib.sha256()
    for name, about in sorted(_files(location)):
        line = f"{name}\0{about[0]}\0{about[1]}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def refuse_empty(location: str) -> None:
    """Raise `GanscaleError` for a source on this machine without a file that could be packed."""
    if not any(True for _ in _files(location)):
        raise GanscaleError(f"{location}: neither a packed dataset nor a folder with image files")


def _files(location: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield the name, size in bytes and modification time in ns of each file of a source."""
    if Path(location).is_dir():
        for name, entry in walk(location):
            if _counts(entry.name):
                about = entry.stat()
                yield name, (about.st_size, about.st_mtime_ns)
        return
    for path in [location] if Path(location).exists() else expand_braces(location):
        about = Path(path).stat()
        yield path, (about.st_size, about.st_mtime_ns)


def _counts(name: str) -> bool:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a million Paths take seconds
    return suffix in IMAGE_SUFFIXES or suffix in OTHER_SUFFIXES
