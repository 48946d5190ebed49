"""`ganscale pack`: any source into WebDataset shards, in parallel, the same bytes each time.

A shard is written beside its final name and renamed when it is whole, its index after it; a
second run keeps what is finished. The order of the samples is shuffled once, here, since the
reader shuffles only among neighbouring shards.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import webdataset as wds
from filelock import FileLock
from PIL import Image

from ganscale.data.images import convert, count_channels, describe_conversion, resize, turn_upright
from ganscale.data.packing.process_pool import process_pool
from ganscale.data.packing.sources import Source
from ganscale.data.reading import png
from ganscale.data.shards.index import (
    index_path,
    index_tar,
    most_index_bytes,
    parse_index,
    save_index,
)
from ganscale.data.shards.manifest import MAX_SAMPLES, MAX_SIDE, Manifest, Shard, load_manifest
from ganscale.errors import GanscaleError
from ganscale.files import read_regular_file, sha256_of_file, write_atomically
from ganscale.randomness import permutation
from ganscale.terminal import printable

PLAN = "packing.json"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Packing:
    """How a set is packed; everything that its bytes follow from besides the source."""

    size: int | None = None
    """Height and width in pixels; without it every image must have the size of the first."""
    crop: str = "center"
    """`center` takes the middle square; `none` keeps the whole image, on black."""
    channels: Literal[1, 3] | None = None
    """1 or 3; without it, what the first image has."""
    format: str = "png"
    quality: int = 95
    samples_per_shard: int = 4096
    shuffle_seed: int = 0
    on_error: str = "raise"


@dataclass
class PackingSummary:
    """What was met while packing."""

    skipped: list[str] = field(default_factory=list)
    """A message for each image that could not be read."""
    conversions: Counter[str] = field(default_factory=Counter)
    """How many images were of a kind that had to be converted."""

    def add(self, other: "PackingSummary") -> None:
        """Take over what another process met."""
        self.skipped += other.skipped
        self.conversions += other.conversions


def pack(
    source: Source,
    folder: Path,
    packing: Packing,
    processes: int,
    progress: Progress,
    part: tuple[int, int] = (0, 1),
) -> tuple[Manifest | None, PackingSummary]:
    """Pack `source` into `folder`; returns the manifest and what was met on the way.

    Of `part` (i, n) only shards i, i + n, … are written here, as several machines share the work.
    Who finds all shards there at its end writes the manifest; the others return None.

    Raises `GanscaleError` where an image cannot be read (unless `on_error` is `skip`) or where
    the folder holds another set.
    """
    _check_names(source)
    if packing.samples_per_shard > MAX_SAMPLES:
        raise GanscaleError(f"--samples-per-shard must be {MAX_SAMPLES:,} at the most")
    channels, height, width = _image_shape(source, packing)
    shape = (channels, height, width)
    plan = {
        "source": source.description,
        "samples": len(source),
        "shape": list(shape),
        **asdict(packing),
    }
    if (done := _already_packed(folder, plan)) is not None:
        return done, PackingSummary()
    order = permutation(packing.shuffle_seed, "pack", 0, len(source))
    parts = [
        (folder / f"shard-{number:06d}.tar", order[start : start + packing.samples_per_shard])
        for number, start in enumerate(range(0, len(order), packing.samples_per_shard))
    ]
    shards: dict[str, Shard] = {}
    packed = PackingSummary()
    own = parts[part[0] :: part[1]]
    finished, total = 0, sum(len(rows) for _, rows in own)
    for shard, met in _written(source, own, shape, packing, processes):
        shards[shard.name] = shard
        packed.add(met)
        finished += shard.samples + len(met.skipped)
        progress(finished, total)
    others = [path for path, _ in parts if path.name not in shards]
    if not all(index_path(path).is_file() for path in others):
        return None, packed
    shards |= {path.name: _described(path) for path in others}
    manifest = Manifest(
        source=printable(source.description),
        classes=source.classes,
        channels=channels,
        height=height,
        width=width,
        shards=tuple(shards[path.name] for path, _ in parts if shards[path.name].samples),
    )
    if not manifest.samples:
        raise GanscaleError(f"{source.description}: not one image could be read")
    manifest.save(folder)
    return manifest, packed


def _check_names(source: Source) -> None:
    for name in source.classes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise GanscaleError(
                f"{source.description}: the name of class {name!a} is not UTF-8; rename its folder"
            ) from None


def _already_packed(folder: Path, plan: dict[str, object]) -> Manifest | None:
    """The finished set if this plan made it; writes the plan where the folder is new."""
    path = folder / PLAN
    text = json.dumps(plan, indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with FileLock(lock):  # parts may start together
        if not path.is_file():
            if any(inside != lock for inside in folder.iterdir()):
                raise GanscaleError(
                    f"{folder}: not empty, and nothing packed by ganscale; choose another"
                )
            write_atomically(path, text.encode())
            return None
    if path.read_text() != text:
        raise GanscaleError(
            f"{folder}: holds another packing ({path} says which); "
            "remove the folder or choose another"
        )
    try:
        return load_manifest(folder)
    except GanscaleError:
        return None


def _image_shape(source: Source, packing: Packing) -> tuple[Literal[1, 3], int, int]:
    """That of the first image that can be read."""
    for i in range(len(source)):
        try:
            first = _upright(source, i)
        except GanscaleError:
            if packing.on_error == "raise":
                raise
            continue
        height, width = packing.size or first.height, packing.size or first.width
        if max(height, width) > MAX_SIDE:
            raise GanscaleError(
                f"{source.description}: images of {width}×{height} pixels; no side may be over "
                f"{MAX_SIDE:,}: give a smaller --size"
            )
        return packing.channels or count_channels(first), height, width
    raise GanscaleError(f"{source.description}: not one image could be read")


def _upright(source: Source, i: int) -> Image.Image:
    try:
        return turn_upright(source.image(i))
    except ValueError as error:
        raise GanscaleError(f"{source.description}: image {i} {error}") from None


def _written(
    source: Source,
    parts: list[tuple[Path, np.ndarray]],
    shape: tuple[int, int, int],
    packing: Packing,
    processes: int,
) -> Iterator[tuple[Shard, PackingSummary]]:
    """Each shard as it is finished, in any order."""
    if processes <= 1 or len(parts) == 1:
        for path, order in parts:
            yield _write_shard(source, path, order, shape, packing)
        return
    with process_pool(min(processes, len(parts)), __name__) as pool:
        tasks = [pool.submit(_write_shard, source, p, o, shape, packing) for p, o in parts]
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_shard(
    source: Source,
    path: Path,
    order: np.ndarray,
    shape: tuple[int, int, int],
    packing: Packing,
) -> tuple[Shard, PackingSummary]:
    """One shard and its index; kept as it is where both are there already."""
    packed = PackingSummary()
    if not index_path(path).is_file():
        temporary = path.with_suffix(".partial")
        packed = _write_tar(source, temporary, order, shape, packing)
        temporary.replace(path)
        save_index(index_path(path), index_tar(path))
    return _described(path), packed


def _described(path: Path) -> Shard:
    """A finished shard as the manifest lists it."""
    index = index_path(path)
    try:
        samples = len(parse_index(read_regular_file(index, most_index_bytes(path.stat().st_size))))
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
    """Write the samples of `order`."""
    packed = PackingSummary()
    with wds.TarWriter(str(path), mtime=0, user="ganscale", group="ganscale") as writer:
        for i in order.tolist():
            try:
                raw = source.image(i)
                image = _fitted(source, i, raw, shape, packing)
            except GanscaleError as error:
                if packing.on_error == "raise":
                    raise
                packed.skipped.append(str(error))
                continue
            packed.conversions.update(filter(None, [describe_conversion(raw)]))
            sample = {"__key__": f"{i:09d}", packing.format: _encoded(image, packing)}
            label = source.label(i)
            if not -1 <= label < len(source.classes):
                raise GanscaleError(
                    f"{source.description}: image {i} has class number {label}, and there are "
                    f"{len(source.classes)} classes"
                )
            if label >= 0:
                sample["cls"] = str(label).encode()
            writer.write(sample)
    return packed


def _fitted(
    source: Source, i: int, image: Image.Image, shape: tuple[int, int, int], packing: Packing
) -> Image.Image:
    """Image `i` of the source in the set's colours and size."""
    channels, height, width = shape
    try:
        image = convert(image, channels)
    except ValueError as error:
        raise GanscaleError(f"{source.description}: image {i} cannot be used ({error})") from None
    if packing.size is not None:
        image = resize(image, (height, width), packing.crop == "center")
    if image.size != (width, height):
        raise GanscaleError(
            f"{source.description}: image {i} has {image.width}×{image.height} pixels in a set of "
            f"{width}×{height}; give --size to make them alike"
        )
    return image


def _encoded(image: Image.Image, packing: Packing) -> bytes:
    if packing.format == "png":
        return png.encode(np.atleast_3d(np.asarray(image)))
    buffer = io.BytesIO()
    if packing.format == "jpg":
        image.save(buffer, "JPEG", quality=packing.quality)
    else:
        image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()
