"""Writing of one shard: the tar, its index, and its entry in the manifest.

A shard is written beside its final name and renamed when it is complete; its index follows.
"""

import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ganscale.data.arrays import AnyImage, resize_any, size_of, with_channels
from ganscale.data.images import describe_conversion
from ganscale.data.packing.file_sources import UnusableImageError
from ganscale.data.packing.sources import Source
from ganscale.data.reading import png
from ganscale.data.shards.index import (
    index_path,
    index_tar,
    max_index_bytes,
    parse_index,
    save_index,
)
from ganscale.data.shards.manifest import Shard
from ganscale.errors import GanscaleError
from ganscale.files import read_regular_file, sha256_of_file


@dataclass(frozen=True)
class Packing:
    """The options of packing, which together with the source determine every byte."""

    size: int | tuple[int, int] | None = None
    """Side in pixels, or height and width; if None, every image must have the size of the first."""
    crop: str = "center"
    """`center` cuts the centre to the aspect ratio; `none` keeps the whole image and pads it with
    black."""
    channels: int | None = None
    """1 for grey, 3 for RGB, …; if None, the channels of the first image."""
    bits: int | None = None
    """8 or 16; if None, 8 for pictures, and what the first image has if it is an array."""
    format: str = "png"
    quality: int = 95
    samples_per_shard: int = 4096
    shuffle_seed: int = 0
    on_error: str = "raise"


@dataclass
class PackingSummary:
    """The images that packing skipped or converted."""

    skipped: list[str] = field(default_factory=list)
    """A message for each image that could not be used."""
    conversions: Counter[str] = field(default_factory=Counter)
    """How many images were converted, by kind."""

    def add(self, other: "PackingSummary") -> None:
        """Add the summary of another shard."""
        self.skipped += other.skipped
        self.conversions += other.conversions


def write_shard(
    source: Source,
    path: Path,
    order: np.ndarray,
    shape: tuple[int, int, int],
    packing: Packing,
) -> tuple[Shard, PackingSummary]:
    """Write one shard and its index, unless both exist; return its entry and a summary."""
    summary = PackingSummary()
    if not index_path(path).is_file():
        temporary = path.with_suffix(".partial")
        summary = _write_tar(source, temporary, order, shape, packing)
        temporary.replace(path)
        save_index(index_path(path), index_tar(path))
    return describe_shard(path), summary


def describe_shard(path: Path) -> Shard:
    """Return a finished shard's entry in the manifest."""
    index = index_path(path)
    try:
        samples = len(parse_index(read_regular_file(index, max_index_bytes(path.stat().st_size))))
    except (OSError, ValueError) as error:
        raise GanscaleError(f"{index}: damaged ({error}); remove it and pack again") from None
    return Shard(
        name=path.name,
        samples=samples,
        bytes=path.stat().st_size,
        sha256=sha256_of_file(path),
        index_sha256=sha256_of_file(index),
    )


def _write_tar(
    source: Source,
    path: Path,
    order: np.ndarray,
    shape: tuple[int, int, int],
    packing: Packing,
) -> PackingSummary:
    """Write the samples of `order` into a tar."""
    import webdataset as wds  # a dataset that is packed already does without

    summary = PackingSummary()
    with wds.TarWriter(str(path), mtime=0, user="ganscale", group="ganscale") as writer:
        for i in order.tolist():
            try:
                raw = source.image(i)
                image = _fit(source, i, raw, shape, packing)
            except GanscaleError as error:
                if packing.on_error == "raise":
                    raise
                summary.skipped.append(str(error))
                continue
            if isinstance(raw, Image.Image) and packing.bits == 8:
                summary.conversions.update(filter(None, [describe_conversion(raw)]))
            sample = {"__key__": f"{i:09d}", packing.format: _encode(image, packing)}
            label = source.label(i)
            if not -1 <= label < len(source.classes):
                raise GanscaleError(
                    f"{source.description}: image {i} has class number {label}, but there are only "
                    f"{len(source.classes)} classes"
                )
            if label >= 0:
                sample["cls"] = str(label).encode()
            writer.write(sample)
    return summary


def _fit(
    source: Source, i: int, image: AnyImage, shape: tuple[int, int, int], packing: Packing
) -> AnyImage:
    """Convert image `i` of the source to the dataset's channels, bits and size."""
    channels, height, width = shape
    try:
        image = with_channels(image, channels, packing.bits or 8)
    except ValueError as error:
        raise UnusableImageError(
            f"{source.description}: image {i} cannot be used ({error})"
        ) from None
    if packing.size is not None:
        image = resize_any(image, (height, width), packing.crop == "center")
    if (found := size_of(image)) != (height, width):
        raise GanscaleError(
            f"{source.description}: image {i} has {found[1]}×{found[0]} pixels, but the "
            f"first has {width}×{height}; give --size to resize them all"
        )
    return image


def _encode(image: AnyImage, packing: Packing) -> bytes:
    if packing.format == "png":
        return png.encode(np.atleast_3d(np.asarray(image)))
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image)
    buffer = io.BytesIO()
    if packing.format == "jpg":
        image.save(buffer, "JPEG", quality=packing.quality)
    else:
        image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()
