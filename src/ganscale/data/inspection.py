"""Inspection of a packed dataset: a summary, its first images, and a full verification."""

import os
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from ganscale.config import Data
from ganscale.data.images import SHARD_FORMATS, convert, open_image, read_header
from ganscale.data.packing.process_pool import process_pool
from ganscale.data.reading.decode import decode_bytes
from ganscale.data.reading.png import Pixels
from ganscale.data.shards.index import CHECKSUM, LABEL, NO_CHECKSUM, OFFSET, SIZE, index_tar
from ganscale.data.shards.manifest import Manifest
from ganscale.data.shards.storage import open_storage
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file, read_at, sha256_of_file
from ganscale.terminal import printable

SHEET_IMAGES = 100
SHEET_SIDE = 64  # pixels; images of different sizes are resized to this square
MAX_CLASSES_SHOWN = 20


def summary(location: str, manifest: Manifest) -> list[str]:
    """Describe a dataset in a few lines; count its labels if it is in a folder of this machine."""
    size = sum(shard.bytes for shard in manifest.shards)
    shape = "different sizes" if manifest.has_mixed_sizes else f"{manifest.height}×{manifest.width}"
    lines = [
        f"{location}: {manifest.samples:,} images of {shape}, "
        f"{manifest.channels} channel{'s' if manifest.channels > 1 else ''}"
        f"{' of 16 bits' if manifest.bits == 16 else ''}, "
        f"{len(manifest.shards):,} shard{'s' if len(manifest.shards) > 1 else ''}, "
        f"{size / 2**20:,.1f} MiB, from {manifest.source}"
    ]
    if manifest.classes and Path(location).is_dir():
        counts = _label_counts(location, manifest)
        shown = [f"{name} {counts[i]:,}" for i, name in enumerate(manifest.classes)]
        more = ", …" if len(shown) > MAX_CLASSES_SHOWN else ""
        lines.append(f"classes: {', '.join(shown[:MAX_CLASSES_SHOWN])}{more}")
        if counts[-1]:
            lines.append(f"without a label: {counts[-1]:,}")
    return [printable(line) for line in lines]


def _label_counts(location: str, manifest: Manifest) -> Counter[int]:
    storage = open_storage(location, Data(path=location))
    counts: Counter[int] = Counter()
    for shard in manifest.shards:
        counts.update(storage.index(shard, len(manifest.classes))[:, LABEL].tolist())
    return counts


def first_images(location: str, manifest: Manifest) -> Pixels:
    """Return the first images of the first shard, (N, H, W, C), all of one size.

    Raises `GanscaleError` if one of them cannot be decoded or does not match the manifest.
    """
    data = Data(path=location)
    storage = open_storage(location, data)
    shard = manifest.shards[0]
    table = storage.index(shard, len(manifest.classes))
    side = SHEET_SIDE if manifest.has_mixed_sizes else None
    images: list[Pixels] = []
    with open_regular_file(storage.tar(shard)) as file:
        # The index was checked only against the manifest, and a stranger may have forged both.
        if (found := os.fstat(file.fileno()).st_size) != shard.bytes:
            raise GanscaleError(
                f"{location}: shard {shard.name}: {found:,} bytes, but the manifest says "
                f"{shard.bytes:,}; pack or index the dataset again"
            )
        for row, (offset, size) in enumerate(table[:SHEET_IMAGES, [OFFSET, SIZE]].tolist()):
            try:
                content = read_at(file.fileno(), offset, size)
                if not manifest.is_of_pictures:
                    images.append(_array(content, manifest, data.max_pixels))
                    continue
                image = open_image(content, SHARD_FORMATS, data.max_pixels)
                shown = convert(image, manifest.channels)
            except ValueError as error:
                raise GanscaleError(
                    f"{location}: shard {shard.name}, sample {row} cannot be shown ({error})"
                ) from None
            if not side and shown.size != (manifest.width, manifest.height):
                raise GanscaleError(
                    f"{location}: shard {shard.name}, sample {row} has {shown.width}×"
                    f"{shown.height} pixels in a dataset of {manifest.width}×{manifest.height}"
                )
            shown = shown.resize((side, side)) if side else shown
            images.append(np.array(shown).reshape(*shown.size[::-1], -1))
    return np.stack(images)


def _array(content: bytes, manifest: Manifest, max_pixels: int) -> Pixels:
    """Decode an image that Pillow does not read as it is packed, (H, W, C)."""
    shape = (manifest.channels, manifest.height or 0, manifest.width or 0)
    return np.moveaxis(decode_bytes(content, shape, max_pixels, bits=manifest.bits), 0, 2)


def verify(location: str, manifest: Manifest, processes: int | None = None) -> list[str]:
    """Check each checksum and index and decode each sample, in parallel; return the faults."""
    processes = min(processes or os.cpu_count() or 1, len(manifest.shards))
    check = partial(_verify_shard, location, manifest)
    if processes == 1:
        return [fault for i in range(len(manifest.shards)) for fault in check(i)]
    with process_pool(processes, __name__) as pool:
        return [
            fault for faults in pool.map(check, range(len(manifest.shards))) for fault in faults
        ]


def _verify_shard(location: str, manifest: Manifest, number: int) -> list[str]:
    shard = manifest.shards[number]
    data = Data(path=location)
    try:
        storage = open_storage(location, data)
        table = storage.index(shard, len(manifest.classes))
        tar = storage.tar(shard)
        if sha256_of_file(tar) != shard.sha256:
            return [f"{shard.name}: its SHA-256 differs from the manifest's"]
        found = index_tar(tar)
    except (GanscaleError, OSError) as error:
        return [f"{shard.name}: {error}"]
    if len(found) != len(table):
        return [f"{shard.index_name}: does not describe {shard.name}"]
    # The labels of the index need not come from the `cls` members of the tar.
    if not (found[:, LABEL] >= 0).any():
        found[:, LABEL] = table[:, LABEL]
    found[table[:, CHECKSUM] == NO_CHECKSUM, CHECKSUM] = NO_CHECKSUM
    if not np.array_equal(table, found):
        return [f"{shard.index_name}: does not describe {shard.name}"]
    faults = []
    with open_regular_file(tar) as file:
        for row, (offset, size) in enumerate(table[:, [OFFSET, SIZE]].tolist()):
            try:
                content = read_at(file.fileno(), offset, size)
                height, width, _ = read_header(content)
                shape = (
                    manifest.channels,
                    manifest.height or height,
                    manifest.width or width,
                )
                decode_bytes(content, shape, data.max_pixels, bits=manifest.bits)
            except ValueError as error:
                faults.append(f"{shard.name}: sample {row} cannot be decoded ({error})")
    return faults
