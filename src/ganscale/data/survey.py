"""A look at a user's own images before any training: what they are, and which ones are broken.

Every file is opened, but of most only the header is read. Some are decoded, spread evenly over the
source, as far as the time goes.
"""

import hashlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganscale.data.images import EXIF_ORIENTATION, FILE_FORMATS, QUARTER_TURNS
from ganscale.data.packing.file_sources import FileSource

THREADS = 16  # which wait for disks and servers more than they compute
DECODED = 2000  # images at most
DECODE_S = 20.0
ENDS = 4096  # bytes of a file's beginning and of its end
THUMBNAIL = (9, 8)
SAME_BITS = 2  # of 64, by which the outlines of near duplicates may differ
LEAST_CONTRAST = 8.0  # of a thumbnail that has an outline to compare
GREY_DIFFERENCE = 6  # between channels, which JPEG does not keep exactly

T = TypeVar("T")
Show = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


class Header(NamedTuple):
    """What the beginning of a file says of its image, and what tells files apart quickly."""

    height: int
    """Of the upright image, pixels."""
    width: int
    kind: str
    """Pillow's name of the format and of the mode, such as `JPEG RGB` or `PNG RGB 16 bit`."""
    ends: bytes
    """A checksum of the file's size, beginning and end."""


@dataclass
class Survey:
    """What was found."""

    images: int
    """Files that look like images, broken ones included."""
    sizes: NDArray[np.int64]
    """Height and width of each readable image, (N, 2)."""
    kinds: Counter[str]
    classes: Counter[str]
    """Images by class; empty if there are no classes."""
    broken: list[str]
    """A message for each image that cannot be read."""
    duplicates: list[tuple[str, str]]
    """Names of files whose bytes are the same as those of an earlier one."""
    near: list[tuple[str, str]] = field(default_factory=list)
    """Pairs of decoded images that look alike."""
    decoded: int = 0
    grey: bool = False
    """True if none of the decoded images has colour."""

    @property
    def sides(self) -> NDArray[np.int64]:
        """The shorter side of each readable image in pixels, (N,)."""
        shorter: NDArray[np.int64] = self.sizes.min(axis=1)
        return shorter

    @property
    def aspect(self) -> float:
        """The median of the longer side divided by the shorter one."""
        return float(np.median(self.sizes.max(axis=1) / self.sizes.min(axis=1)))


def survey(source: FileSource, show: Show) -> Survey:
    """Look at all images of a source, and decode some."""
    headers: dict[int, Header] = {}
    broken: dict[int, str] = {}
    with show(f"looking at {source.description}") as progress:
        for i, found in enumerate(_in_threads(lambda i: _look(source, i), range(len(source)))):
            if isinstance(found, Header):
                headers[i] = found
            else:
                broken[i] = found
            progress(i + 1, len(source))
    labels = Counter(source.label(i) for i in range(len(source)))
    result = Survey(
        len(source),
        np.array([header[:2] for header in headers.values()], np.int64).reshape(-1, 2),
        Counter(header.kind for header in headers.values()),
        Counter({name: labels[i] for i, name in enumerate(source.classes)}),
        [],
        list(_duplicates(source, headers)),
    )
    _decode_some(source, list(headers), broken, result, show)
    result.broken = [message for _, message in sorted(broken.items())]
    return result


def _in_threads(act: Callable[[int], T], items: Iterable[int]) -> Iterator[T]:
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(act, items)


def _look(source: FileSource, i: int) -> Header | str:
    """Return the header of an image, or why it cannot be read."""
    try:
        with source.open_file(i) as file:
            ends = _ends(file)
            file.seek(0)
            with Image.open(file, formats=FILE_FORMATS) as image:
                turned = False
                if image.format == "JPEG":  # for other formats this may decode the whole image
                    turned = image.getexif().get(EXIF_ORIENTATION, 1) in QUARTER_TURNS
                height, width = image.size if turned else image.size[::-1]
                return Header(height, width, _kind(image), ends)
    except Exception as error:  # a damaged file can raise any exception inside Pillow
        return _message(source, i, error)


def _message(source: FileSource, i: int, error: Exception) -> str:
    text = (str(error) or type(error).__name__).splitlines()[0]
    if "cannot identify image file" in text:
        text = "not an image in a supported format"
    return f"{source.name(i)}: {text}"


def _kind(image: Image.Image) -> str:
    tile = getattr(image, "tile", None)  # where and how Pillow found the pixels stored
    stored = str(tile[0][3]) if tile else ""
    deep = ";16" in stored or image.mode.startswith("I;16")
    return f"{image.format} {image.mode}{' 16 bit' if deep else ''}"


def _ends(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    digest = hashlib.sha256(str(size).encode())
    for start in (0, max(0, size - ENDS)):
        file.seek(start)
        digest.update(file.read(ENDS))
    return digest.digest()


def _duplicates(source: FileSource, headers: dict[int, Header]) -> Iterator[tuple[str, str]]:
    """Yield the names of each file and of the earlier one with the same bytes."""
    alike: dict[bytes, list[int]] = defaultdict(list)
    for i, header in headers.items():
        alike[header.ends].append(i)
    for group in alike.values():
        first: dict[bytes, int] = {}
        for i in group if len(group) > 1 else []:
            with source.open_file(i) as file:
                digest = hashlib.sha256(file.read()).digest()
            if digest in first:
                yield source.name(i), source.name(first[digest])
            first.setdefault(digest, i)


def _decode_some(
    source: FileSource, readable: list[int], broken: dict[int, str], result: Survey, show: Show
) -> None:
    """Decode images until `DECODED` are, or until the time is over; note what they show."""
    chosen = readable[:: max(1, -(-len(readable) // DECODED))]
    # A second order spreads what the time allows over the whole source.
    chosen = [chosen[k] for k in np.random.default_rng(0).permutation(len(chosen))]
    end = time.monotonic() + DECODE_S
    thumbnails: dict[int, NDArray[np.uint8]] = {}

    def decode(i: int) -> NDArray[np.uint8] | str | None:
        return _thumbnail(source, i) if time.monotonic() < end else None

    with show(f"decoding images of {source.description}") as progress:
        for k, found in enumerate(_in_threads(decode, chosen)):
            if isinstance(found, str):
                broken[chosen[k]] = found
            elif found is not None:
                thumbnails[chosen[k]] = found
            progress(k + 1, len(chosen))
    result.decoded = len(thumbnails)
    if thumbnails:
        numbers = sorted(thumbnails)
        pixels = np.stack([thumbnails[i] for i in numbers]).astype(np.int16)
        result.grey = bool((pixels.max(3) - pixels.min(3)).max() <= GREY_DIFFERENCE)
        same = {frozenset(pair) for pair in result.duplicates}
        for one, other in _look_alike(pixels.mean(3)):
            pair = source.name(numbers[one]), source.name(numbers[other])
            if frozenset(pair) not in same:
                result.near.append(pair)


def _thumbnail(source: FileSource, i: int) -> NDArray[np.uint8] | str:
    """Decode an image and return it as 8×9 RGB pixels, or why it cannot be decoded."""
    try:
        with source.open_file(i) as file, Image.open(file, formats=FILE_FORMATS) as image:
            image.draft("RGB", (64, 64))  # a JPEG is decoded at an eighth of its size
            image.load()
            small = image.convert("RGB").resize(THUMBNAIL, Image.Resampling.BOX)
            return np.asarray(small)
    except Exception as error:  # as above
        return _message(source, i, error)


def _look_alike(grey: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    """Yield pairs of thumbnails, (N, 8, 9), with the same outlines.

    The outlines of an image are 64 bits, each of which says whether a pixel is brighter than its
    right neighbour (the difference hash, dHash, of N. Krawetz, "Kind of Like That", 2013).
    """
    clear = np.flatnonzero(grey.std(axis=(1, 2)) > LEAST_CONTRAST)
    bits = (grey[clear, :, :-1] > grey[clear, :, 1:]).reshape(len(clear), 64).astype(np.float32)
    differing = bits @ (1 - bits).T
    differing += differing.T
    for one, other in np.argwhere(np.triu(differing <= SAME_BITS, k=1)).tolist():
        yield int(clear[one]), int(clear[other])
