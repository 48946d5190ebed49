"""The `ganscale inspect` command: what a packed set holds, and whether it is what it says."""

import argparse
import os
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np

from ganscale.config import Data
from ganscale.data.images import SHARD_FORMATS, convert, open_image, read_header
from ganscale.data.packing.process_pool import process_pool
from ganscale.data.reading.decode import decode_bytes
from ganscale.data.shards.index import CHECKSUM, LABEL, NO_CHECKSUM, OFFSET, SIZE, index_tar
from ganscale.data.shards.manifest import SHEET, Manifest
from ganscale.data.shards.storage import open_storage
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file, sha256_of_file
from ganscale.monitoring.pictures import save_grid
from ganscale.terminal import printable

SHEET_IMAGES = 100
SHEET_SIDE = 64  # pixels of an image where they differ in size
MAX_CLASSES_SHOWN = 20


def run(options: argparse.Namespace) -> int:
    """Print the summary; with --verify check everything, and return 1 where something is wrong."""
    data = Data(path=options.set)
    storage = open_storage(options.set, data)
    manifest = storage.manifest()
    print("\n".join(summary(options.set, manifest, Path(options.set))))
    if options.sheet is not None:
        print(f"contact sheet: {write_sheet(options.set, manifest, options.sheet)}")
    if not options.verify:
        return 0
    faults = verify(options.set, manifest, options.processes)
    for fault in faults:
        print(f"FAULT {printable(fault)}")
    print(
        f"{len(faults):,} faults"
        if faults
        else f"every sum holds and all {manifest.samples:,} samples decode"
    )
    return int(bool(faults))


def summary(location: str, manifest: Manifest, folder: Path) -> list[str]:
    """What the set is, in a few lines."""
    size = sum(shard.bytes for shard in manifest.shards)
    shape = "different sizes" if manifest.varied else f"{manifest.height}×{manifest.width}"
    lines = [
        f"{location}: {manifest.samples:,} images of {shape}, "
        f"{manifest.channels} channel{'s' if manifest.channels > 1 else ''}, "
        f"{len(manifest.shards):,} shard{'s' if len(manifest.shards) > 1 else ''}, "
        f"{size / 2**20:,.1f} MiB, from {manifest.source}"
    ]
    if manifest.classes and folder.is_dir():
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


def write_sheet(location: str, manifest: Manifest, target: Path) -> Path:
    """A grid of the first shard's first images, into a folder or to a file."""
    data = Data(path=location)
    storage = open_storage(location, data)
    shard = manifest.shards[0]
    table = storage.index(shard, len(manifest.classes))
    side = SHEET_SIDE if manifest.varied else None
    images = []
    with open_regular_file(storage.tar(shard)) as file:
        # What the index says of sizes was compared with the manifest's, and both may be forged.
        if (found := os.fstat(file.fileno()).st_size) != shard.bytes:
            raise GanscaleError(
                f"{location}: shard {shard.name}: {found:,} bytes, the manifest says "
                f"{shard.bytes:,}; pack or index the set again"
            )
        for row, (offset, size) in enumerate(table[:SHEET_IMAGES, [OFFSET, SIZE]].tolist()):
            file.seek(offset)
            try:
                image = open_image(file.read(size), SHARD_FORMATS, data.max_pixels)
                shown = convert(image, manifest.channels)
            except ValueError as error:
                raise GanscaleError(
                    f"{location}: shard {shard.name}, sample {row} cannot be shown ({error})"
                ) from None
            if not side and shown.size != (manifest.width, manifest.height):
                raise GanscaleError(
                    f"{location}: shard {shard.name}, sample {row} has {shown.width}×"
                    f"{shown.height} pixels in a set of {manifest.width}×{manifest.height}"
                )
            shown = shown.resize((side, side)) if side else shown
            images.append(np.array(shown).reshape(*shown.size[::-1], -1))
    return save_grid(np.stack(images), target / SHEET if target.is_dir() else target)


def verify(location: str, manifest: Manifest, processes: int | None = None) -> list[str]:
    """Check every sum and index and decode every sample, in parallel; returns the faults."""
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
            return [f"{shard.name}: its SHA-256 is not the manifest's"]
        found = index_tar(tar)
    except (GanscaleError, OSError) as error:
        return [f"{shard.name}: {error}"]
    if len(found) != len(table):
        return [f"{shard.index_name}: does not describe {shard.name}"]
    # Labels may have come from elsewhere than the tar's own `cls` members.
    if not (found[:, LABEL] >= 0).any():
        found[:, LABEL] = table[:, LABEL]
    found[table[:, CHECKSUM] == NO_CHECKSUM, CHECKSUM] = NO_CHECKSUM
    if not np.array_equal(table, found):
        return [f"{shard.index_name}: does not describe {shard.name}"]
    faults = []
    with open_regular_file(tar) as file:
        for row, (offset, size) in enumerate(table[:, [OFFSET, SIZE]].tolist()):
            file.seek(offset)
            content = file.read(size)
            try:
                height, width, _ = read_header(content)
                shape = (
                    manifest.channels,
                    manifest.height or height,
                    manifest.width or width,
                )
                decode_bytes(content, shape, data.max_pixels)
            except ValueError as error:
                faults.append(f"{shard.name}: sample {row} cannot be decoded ({error})")
    return faults
