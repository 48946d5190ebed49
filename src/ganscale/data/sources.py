"""Where images come from before they are packed.

A source is a list of images that any process may read in any order: `len(source)`,
`source.label(i)` (-1 for none), `source.image(i)`. Sources are pickled into packing processes
and open their files there.
"""

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from ganscale.errors import GanscaleError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


class Source(Protocol):
    """Images with labels, in a fixed order."""

    description: str
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""

    def label(self, i: int) -> int:
        """Index into `classes`, or -1."""

    def image(self, i: int) -> Image.Image:
        """The image; `GanscaleError` naming it where it cannot be read."""


class ArraySource:
    """Grey or RGB images in memory: uint8, (N, H, W) or (N, H, W, 3)."""

    def __init__(self, description: str, images: np.ndarray, labels: np.ndarray):
        self.description = description
        self.classes = tuple(str(c) for c in range(int(labels.max()) + 1))
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        return len(self._images)

    def label(self, i: int) -> int:
        """Index into `classes`."""
        return int(self._labels[i])

    def image(self, i: int) -> Image.Image:
        """The image."""
        return Image.fromarray(self._images[i])


class FileSource:
    """Image files in a folder, zip or tar: a class for each folder, or no classes at all."""

    def __init__(self, path: Path, names: Iterable[str], open_reader: Callable[[Path], "Reader"]):
        self.path = path
        self.description = path.name
        self._open_reader = open_reader
        self._names = sorted(n for n in names if _is_image(n))
        if not self._names:
            raise GanscaleError(
                f"{path}: no image files in it (looked for {', '.join(sorted(IMAGE_SUFFIXES))})"
            )
        folders = [PurePosixPath(name).parent.name for name in self._names]
        self.classes = tuple(sorted(set(folders))) if len(set(folders)) > 1 else ()
        numbers = {name: i for i, name in enumerate(self.classes)}
        self._labels = [numbers.get(folder, -1) for folder in folders]

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
        try:
            image = Image.open(io.BytesIO(self._reader(name)))
            image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            raise GanscaleError(f"{self.path}: '{name}' is no readable image{reason}") from None
        return image


Reader = Callable[[str], bytes]


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


def folder_source(path: Path) -> FileSource:
    """Every image below a folder; the folder that holds an image is its class."""
    names = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return FileSource(path, names, _folder_reader)


def zip_source(path: Path) -> FileSource:
    """Every image in a zip; the folder that holds an image is its class."""
    try:
        with zipfile.ZipFile(path) as archive:
            return FileSource(path, archive.namelist(), _zip_reader)
    except zipfile.BadZipFile as error:
        raise GanscaleError(f"{path}: not a readable zip ({error})") from None


def tar_source(path: Path) -> FileSource:
    """Every image in a tar, compressed or not; the folder that holds an image is its class."""
    try:
        with tarfile.open(path) as archive:
            return FileSource(path, [m.name for m in archive if m.isfile()], _tar_reader)
    except (tarfile.TarError, OSError) as error:
        raise GanscaleError(f"{path}: not a readable tar ({error})") from None


def mnist_source(root: Path | None, split: str = "train", download: bool = False) -> ArraySource:
    """MNIST in torchvision's layout (`root/MNIST/raw`), fetched by torchvision where asked."""
    from torchvision.datasets import MNIST

    root = root or Path("data/torchvision")
    try:
        dataset = MNIST(str(root), train=split == "train", download=download)
    except (RuntimeError, OSError) as error:
        hint = "" if download else "; --download fetches it, --data-root says where it is"
        first = str(error).splitlines()[0]
        raise GanscaleError(f"MNIST is not in {root / 'MNIST' / 'raw'} ({first}){hint}") from None
    return ArraySource(f"MNIST {split}", dataset.data.numpy(), dataset.targets.numpy())


def digits_source() -> ArraySource:
    """scikit-learn's 1,797 handwritten digits of 8×8 pixels, brightness 0 to 16 made 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return ArraySource("scikit-learn digits", images, digits.target)


def open_source(name: str, data_root: Path | None, split: str, download: bool) -> Source:
    """`mnist`, `digits`, or a path to a folder, a zip or a tar of images."""
    if name == "mnist":
        return mnist_source(data_root, split, download)
    if name == "digits":
        return digits_source()
    path = Path(name)
    if path.is_dir():
        return folder_source(path)
    if not path.is_file():
        raise GanscaleError(
            f"{name}: no such source; give `mnist`, `digits`, or a folder, zip or tar of images"
        )
    return zip_source(path) if zipfile.is_zipfile(path) else tar_source(path)
