"""Sources of image files: a folder, a zip, a tar, or the shards of another WebDataset."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from ganscale.data.arrays import AnyImage, open_any
from ganscale.data.packing.labels import class_of, read_labels
from ganscale.data.reading.decode import decode_bytes
from ganscale.data.shards.index import LABEL, OFFSET, SIZE, index_tar
from ganscale.data.shards.manifest import MANIFEST, SHEET, load_manifest
from ganscale.data.shards.storage import expand_braces
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file, read_at, read_regular_file

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
DECOMPRESSORS: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
ARRAY_SUFFIX = ".npy"
MAX_PACKED_PIXELS = 1 << 28
MAX_IMAGE_BYTES = 1 << 30  # of a file, also when it is decompressed from an archive

ArrayShape = tuple[tuple[int, int, int], int]
"""Channels, height and width; bits of a value."""


class UnusableImageError(GanscaleError):
    """One image of a source cannot be used; the others may be."""


class FileSource:
    """Image files in a folder, zip or tar.

    The classes come from the label file if there is one, otherwise from the names of the folders
    that hold the images. If all images lie in one folder, they have no classes. Where there are no
    pictures, `.npy` files are the images.
    """

    def __init__(
        self,
        path: Path,
        names: Iterable[str],
        open_reader: Callable[[Path], "Reader"],
        label_file: Path | None,
    ):
        self.path = path
        self.description = path.name
        self._open_reader = open_reader
        names = list(names)
        self._names = sorted(n for n in names if _is_image(n))
        self._names = self._names or sorted(n for n in names if _is_array(n))
        if not self._names:
            suffixes = ", ".join(sorted({*IMAGE_SUFFIXES, ARRAY_SUFFIX}))
            raise GanscaleError(f"{path}: contains no image files (looked for {suffixes})")
        if label_file is not None:
            labels = read_labels(label_file)
            kinds = [class_of(name, labels, path) for name in self._names]
        else:
            kinds = [PurePosixPath(name).parent.name for name in self._names]
        several = label_file is not None or len(set(kinds)) > 1
        self.classes = tuple(sorted(set(kinds), key=natural)) if several else ()
        numbers = {name: i for i, name in enumerate(self.classes)}
        self._labels = [numbers.get(kind, -1) for kind in kinds]

    def __len__(self) -> int:
        return len(self._names)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_reader", "_lock")}

    @cached_property
    def _reader(self) -> "Reader":
        return self._open_reader(self.path)

    @cached_property
    def _lock(self) -> Lock:
        return Lock()

    def label(self, i: int) -> int:
        """Return the index into `classes`, or -1 if there are no classes."""
        return self._labels[i]

    def image(self, i: int) -> AnyImage:
        """Return the decoded image."""
        name = self._names[i]
        return load_image(lambda: self._reader(name), f"{self.path}: '{name}'")

    def name(self, i: int) -> str:
        """Return the path of a file below the source."""
        return self._names[i]

    def open_file(self, i: int) -> BinaryIO:
        """Return a file for reading: of a folder, without reading it; threads may share this."""
        if self.path.is_dir():
            return open_regular_file(self.path / self._names[i])
        with self._lock:
            return io.BytesIO(self._reader(self._names[i]))


class ShardSource:
    """The shards of another WebDataset, to be packed again."""

    def __init__(self, name: str, paths: list[Path]):
        self.description = Path(name).name
        self._paths = paths
        tables = [index_tar(path) for path in paths]
        self._shard = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        self._table = np.concatenate(tables)
        manifest = paths[0].parent / MANIFEST
        labels = self._table[:, LABEL]
        numbered = tuple(str(i) for i in range(int(labels.max(initial=-1)) + 1))
        known = load_manifest(manifest.parent) if manifest.is_file() else None
        self.classes = known.classes if known is not None else numbered
        self._arrays: ArrayShape | None = None
        if known is not None and not known.is_of_pictures:
            assert known.height is not None, "different sizes are those of pictures"
            assert known.width is not None
            self._arrays = ((known.channels, known.height, known.width), known.bits)

    def __len__(self) -> int:
        return len(self._table)

    def label(self, i: int) -> int:
        """Return the index into `classes`, or -1 for none."""
        return int(self._table[i, LABEL])

    def image(self, i: int) -> AnyImage:
        """Return the decoded image."""
        path = self._paths[self._shard[i]]
        offset, size = map(int, self._table[i, [OFFSET, SIZE]])

        def read() -> bytes:
            with open_regular_file(path) as file:
                return read_at(file.fileno(), offset, size)

        return load_image(read, f"{path}: sample {i}", self._arrays)


def shard_paths(name: str) -> list[Path]:
    """Return the tars of a folder without images or subfolders, or of a brace pattern; else []."""
    folder = Path(name)
    if folder.is_dir():
        tars = sorted(folder.glob("*.tar"))
        others = any(p.is_dir() or _is_image(p.name) for p in folder.iterdir() if p.name != SHEET)
        return [] if others else tars
    if "{" in name:
        return [Path(url) for url in expand_braces(name)]
    return []


Reader = Callable[[str], bytes]


def load_image(read: Callable[[], bytes], where: str, packed: ArrayShape | None = None) -> AnyImage:
    """Read and decode an image; raise `UnusableImageError` naming it if that fails.

    `packed` is what `ganscale pack` has made of it, if Pillow does not read that.
    """
    try:
        if packed is None:
            return open_any(read())
        shape, bits = packed
        return np.moveaxis(decode_bytes(read(), shape, MAX_PACKED_PIXELS, bits=bits), 0, 2)
    except Exception as error:  # a damaged archive can raise any exception
        reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise UnusableImageError(f"{where} is not a readable image ({reason})") from None


def natural(name: str) -> tuple[int, str]:
    """Return a sort key that puts numbers in numerical order, before words."""
    is_number = name.isascii() and name.isdecimal() and len(name) < 10
    return (int(name), name) if is_number else (10**9, name)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(path)


def _is_array(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() == ARRAY_SUFFIX and not _is_hidden(path)


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _folder_reader(folder: Path) -> Reader:
    return lambda name: read_regular_file(folder / name, MAX_IMAGE_BYTES)


def _zip_reader(path: Path) -> Reader:
    archive = zipfile.ZipFile(path)

    def read(name: str) -> bytes:
        _refuse_large(archive.getinfo(name).file_size)
        return archive.read(name)

    return read


def _tar_reader(path: Path) -> Reader:
    archive = tarfile.open(path)  # noqa: SIM115 - it stays open as long as the source

    def read(name: str) -> bytes:
        member = archive.getmember(name)
        file = archive.extractfile(member)
        if file is None:
            raise ValueError("not a regular file")
        _refuse_large(member.size)
        return file.read()

    return read


def _refuse_large(size: int) -> None:
    """Raise `ValueError` for a huge member: an archive of kilobytes can hold one of gigabytes."""
    if size > MAX_IMAGE_BYTES:
        raise ValueError(f"{size:,} bytes are too many for an image")


def folder_source(path: Path, labels: Path | None = None) -> FileSource:
    """Return a source of all images below a folder; the folder of an image is its class."""
    return FileSource(path, (name for name, _ in walk(str(path))), _folder_reader, labels)


def walk(folder: str, prefix: str = "") -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Yield each file below a folder and its name from there, without hidden files and folders.

    Links to files are followed, and those to folders are not.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from walk(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield prefix + entry.name, entry


def zip_source(path: Path, labels: Path | None = None) -> FileSource:
    """Return a source of all images in a zip; the folder of an image is its class."""

    def names() -> list[str]:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()

    return FileSource(path, _list_members(names, path, "zip"), _zip_reader, labels)


def tar_source(path: Path, labels: Path | None = None, workspace: Path | None = None) -> FileSource:
    """Return a source of all images in a tar, compressed or not; an image's folder is its class.

    A compressed one is first decompressed into `workspace`, if there is one: to find a member in
    it, everything before has to be decompressed each time.
    """

    def names() -> list[str]:
        with tarfile.open(plain) as archive:
            return [member.name for member in archive if member.isfile()]

    plain = path if workspace is None else _decompressed(path, workspace)
    source = FileSource(plain, _list_members(names, path, "tar"), _tar_reader, labels)
    source.description = path.name
    return source


def _decompressed(path: Path, workspace: Path) -> Path:
    """Return the decompressed copy of a tar, or the tar itself if it is not compressed."""
    with path.open("rb") as file:
        start = file.read(8)
    opener = next((o for magic, o in DECOMPRESSORS.items() if start.startswith(magic)), None)
    plain = workspace / f"{short_name(file_identity(path))}.tar"
    if opener is None or plain.is_file():
        return path if opener is None else plain
    workspace.mkdir(parents=True, exist_ok=True)
    partial = plain.with_suffix(".partial")
    try:
        with opener(path) as source, partial.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the content
        raise GanscaleError(
            f"{path}: not a readable tar ({type(error).__name__}: {error})"
        ) from None
    return partial.replace(plain)


def file_identity(path: Path) -> str:
    """Return a text that no other file has, nor this one when it has changed."""
    about = path.stat()
    return f"{path.resolve()} {about.st_size} {about.st_mtime_ns}"


def short_name(identity: str) -> str:
    """Return a file name for what an identity stands for."""
    return hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()[:16]


def _list_members(names: Callable[[], list[str]], path: Path, kind: str) -> list[str]:
    try:
        return names()
    except Exception as error:  # a damaged archive can raise any exception
        first = (
            str(error).partition("\n")[0].rstrip(":")
        )  # tarfile adds a line for each compression
        raise GanscaleError(
            f"{path}: not a readable {kind} ({type(error).__name__}: {first})"
        ) from None
