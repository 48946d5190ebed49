"""Sources of image files: a folder, a zip, a tar, or the shards of another WebDataset."""

import tarfile
import zipfile
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ganscale.data.images import open_image
from ganscale.data.packing.labels import class_of, read_labels
from ganscale.data.shards.index import LABEL, OFFSET, SIZE, index_tar
from ganscale.data.shards.manifest import MANIFEST, SHEET, load_manifest
from ganscale.data.shards.storage import expand_braces
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file, read_regular_file

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_IMAGE_BYTES = 1 << 30  # of a file, and of what an archive makes of it


class FileSource:
    """Image files in a folder, zip or tar.

    Classes come from a label file where one is given, else from the folders that hold the images;
    images in one folder have none.
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
        self._names = sorted(n for n in names if _is_image(n))
        if not self._names:
            raise GanscaleError(
                f"{path}: no image files in it (looked for {', '.join(sorted(IMAGE_SUFFIXES))})"
            )
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
        return {k: v for k, v in self.__dict__.items() if k != "_reader"}

    @cached_property
    def _reader(self) -> "Reader":
        return self._open_reader(self.path)

    def label(self, i: int) -> int:
        """Index into `classes`, or -1 where all images lie in one folder."""
        return self._labels[i]

    def image(self, i: int) -> Image.Image:
        """The decoded image."""
        name = self._names[i]
        return load_image(lambda: self._reader(name), f"{self.path}: '{name}'")


class ShardSource:
    """The shards of another WebDataset, to be packed anew."""

    def __init__(self, name: str, paths: list[Path]):
        self.description = Path(name).name
        self._paths = paths
        tables = [index_tar(path) for path in paths]
        self._shard = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        self._table = np.concatenate(tables)
        manifest = paths[0].parent / MANIFEST
        labels = self._table[:, LABEL]
        numbered = tuple(str(i) for i in range(int(labels.max(initial=-1)) + 1))
        self.classes = load_manifest(manifest.parent).classes if manifest.is_file() else numbered

    def __len__(self) -> int:
        return len(self._table)

    def label(self, i: int) -> int:
        """Index into `classes`, or -1."""
        return int(self._table[i, LABEL])

    def image(self, i: int) -> Image.Image:
        """The decoded image."""
        path = self._paths[self._shard[i]]
        offset, size = map(int, self._table[i, [OFFSET, SIZE]])

        def read() -> bytes:
            with open_regular_file(path) as file:
                file.seek(offset)
                return file.read(size)

        return load_image(read, f"{path}: sample {i}")


def shard_paths(name: str) -> list[Path]:
    """The tars of a folder that holds only those, or that a brace pattern names; else none."""
    folder = Path(name)
    if folder.is_dir():
        tars = sorted(folder.glob("*.tar"))
        others = any(p.is_dir() or _is_image(p.name) for p in folder.iterdir() if p.name != SHEET)
        return [] if others else tars
    if "{" in name:
        return [Path(url) for url in expand_braces(name)]
    return []


Reader = Callable[[str], bytes]


def load_image(read: Callable[[], bytes], where: str) -> Image.Image:
    """The decoded image; `GanscaleError` naming it where it cannot be read."""
    try:
        return open_image(read())
    except Exception as error:  # a damaged archive meets every exception of Python
        reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise GanscaleError(f"{where} is no readable image ({reason})") from None


def natural(name: str) -> tuple[int, str]:
    """Numbers in their own order, before words."""
    is_number = name.isascii() and name.isdecimal() and len(name) < 10
    return (int(name), name) if is_number else (10**9, name)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _folder_reader(folder: Path) -> Reader:
    return lambda name: read_regular_file(folder / name, MAX_IMAGE_BYTES)


def _zip_reader(path: Path) -> Reader:
    archive = zipfile.ZipFile(path)

    def read(name: str) -> bytes:
        _refuse_large(archive.getinfo(name).file_size)
        return archive.read(name)

    return read


def _tar_reader(path: Path) -> Reader:
    archive = tarfile.open(path)  # noqa: SIM115 - stays open as long as the source

    def read(name: str) -> bytes:
        member = archive.getmember(name)
        file = archive.extractfile(member)
        if file is None:
            raise ValueError("not a regular file")
        _refuse_large(member.size)
        return file.read()

    return read


def _refuse_large(size: int) -> None:
    """An archive of some kilobytes may hold a file of many gigabytes."""
    if size > MAX_IMAGE_BYTES:
        raise ValueError(f"{size:,} bytes are too many for an image")


def folder_source(path: Path, labels: Path | None = None) -> FileSource:
    """Every image below a folder; the folder that holds an image is its class."""
    names = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return FileSource(path, names, _folder_reader, labels)


def zip_source(path: Path, labels: Path | None = None) -> FileSource:
    """Every image in a zip; the folder that holds an image is its class."""

    def names() -> list[str]:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()

    return FileSource(path, _listed(names, path, "zip"), _zip_reader, labels)


def tar_source(path: Path, labels: Path | None = None) -> FileSource:
    """Every image in a tar, compressed or not; the folder that holds an image is its class."""

    def names() -> list[str]:
        with tarfile.open(path) as archive:
            return [member.name for member in archive if member.isfile()]

    return FileSource(path, _listed(names, path, "tar"), _tar_reader, labels)


def _listed(names: Callable[[], list[str]], path: Path, kind: str) -> list[str]:
    try:
        return names()
    except Exception as error:  # a damaged archive meets every exception of Python
        raise GanscaleError(
            f"{path}: not a readable {kind} ({type(error).__name__}: {error})"
        ) from None
