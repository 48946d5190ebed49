"""Sources of image files: a folder, a zip, a tar, or the shards of another WebDataset."""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import webdataset as wds
from PIL import Image, UnidentifiedImageError

from ganscale.data.labels import class_of, read_labels
from ganscale.data.manifest import LABEL, MANIFEST, OFFSET, SHEET, SIZE, index_tar, load_manifest
from ganscale.errors import GanscaleError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


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
        self.classes = tuple(sorted(set(kinds), key=_natural)) if several else ()
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
        return _loaded(lambda: self._reader(name), f"{self.path}: '{name}'")


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
            with path.open("rb") as file:
                file.seek(offset)
                content: bytes = file.read(size)
            return content

        return _loaded(read, f"{path}: sample {i}")


def shard_paths(name: str) -> list[Path]:
    """The tars of a folder that holds only those, or that a brace pattern names; else none."""
    folder = Path(name)
    if folder.is_dir():
        tars = sorted(folder.glob("*.tar"))
        others = any(p.is_dir() or _is_image(p.name) for p in folder.iterdir() if p.name != SHEET)
        return [] if others else tars
    if "{" in name:
        return [Path(url) for url in wds.shardlists.expand_urls(name)]
    return []


Reader = Callable[[str], bytes]


def _loaded(read: Callable[[], bytes], where: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(read()))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise GanscaleError(f"{where} is no readable image{reason}") from None
    return image


def _natural(name: str) -> tuple[int, str]:
    """Numbers in their own order, before words."""
    return (int(name), "") if name.isdigit() else (10**9, name)


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _folder_reader(folder: Path) -> Reader:
    return lambda name: (folder / name).read_bytes()


def _zip_reader(path: Path) -> Reader:
    return zipfile.ZipFile(path).read


def _tar_reader(path: Path) -> Reader:
    archive = tarfile.open(path)  # noqa: SIM115 - stays open as long as the source

    def read(name: str) -> bytes:
        file = archive.extractfile(name)
        if file is None:
            raise OSError("not a regular file")
        return file.read()

    return read


def folder_source(path: Path, labels: Path | None = None) -> FileSource:
    """Every image below a folder; the folder that holds an image is its class."""
    names = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return FileSource(path, names, _folder_reader, labels)


def zip_source(path: Path, labels: Path | None = None) -> FileSource:
    """Every image in a zip; the folder that holds an image is its class."""
    try:
        with zipfile.ZipFile(path) as archive:
            return FileSource(path, archive.namelist(), _zip_reader, labels)
    except zipfile.BadZipFile as error:
        raise GanscaleError(f"{path}: not a readable zip ({error})") from None


def tar_source(path: Path, labels: Path | None = None) -> FileSource:
    """Every image in a tar, compressed or not; the folder that holds an image is its class."""
    try:
        with tarfile.open(path) as archive:
            return FileSource(path, [m.name for m in archive if m.isfile()], _tar_reader, labels)
    except (tarfile.TarError, OSError) as error:
        raise GanscaleError(f"{path}: not a readable tar ({error})") from None
