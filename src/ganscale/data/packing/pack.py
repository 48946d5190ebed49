"""`ganscale pack`: pack any source into WebDataset shards, in parallel and reproducibly.

The same source and options give the same bytes. An interrupted packing resumes: finished shards
are kept. The samples are shuffled once, here, because a reader shuffles only within blocks of
neighbouring shards.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from PIL import Image

from ganscale.data.arrays import AnyImage, bits_of, channels_of, size_of
from ganscale.data.images import turn_upright
from ganscale.data.packing.file_sources import UnusableImageError
from ganscale.data.packing.process_pool import process_pool
from ganscale.data.packing.shard_writer import (
    Packing,
    PackingSummary,
    describe_shard,
    write_shard,
)
from ganscale.data.packing.sources import Source
from ganscale.data.shards.index import index_path
from ganscale.data.shards.manifest import (
    MAX_CHANNELS,
    MAX_SAMPLES,
    MAX_SIDE,
    Manifest,
    Shard,
    load_manifest,
)
from ganscale.errors import GanscaleError
from ganscale.files import write_atomically
from ganscale.host_randomness import permutation
from ganscale.terminal import printable

PLAN = "packing.json"
WORKSPACE = ".source"  # in the folder being packed: what a source keeps while it is read
Progress = Callable[[int, int], None]


def pack(
    source: Source,
    folder: Path,
    packing: Packing,
    processes: int,
    progress: Progress,
    part: tuple[int, int] = (0, 1),
) -> tuple[Manifest | None, PackingSummary]:
    """Pack `source` into `folder`; return the manifest and a summary.

    With `part` (i, n), several machines share the work: this call writes only shards i, i + n, ….
    The call after which all shards are complete writes the manifest; the others return None.

    Raises `GanscaleError` if an image cannot be read (unless `on_error` is `skip`) or if the
    folder holds another dataset.
    """
    _check_class_names(source)
    if packing.samples_per_shard > MAX_SAMPLES:
        raise GanscaleError(f"--samples-per-shard must be at most {MAX_SAMPLES:,}")
    shape, bits = _image_shape(source, packing)
    if packing.format != "png" and not (shape[0] in (1, 3) and bits == 8):
        raise GanscaleError(
            f"--format {packing.format} holds 1 or 3 channels of 8 bits, and these images have "
            f"{shape[0]} of {bits}; use --format png"
        )
    plan = {
        "source": source.description,
        "samples": len(source),
        "shape": list(shape),
        **{key: value for key, value in asdict(packing).items() if key != "bits"},
    }
    if bits != 8:  # earlier versions had no other
        plan["bits"] = bits
    packing = replace(packing, bits=bits)
    if (finished_dataset := _find_packed(folder, plan)) is not None:
        return finished_dataset, PackingSummary()
    order = permutation(packing.shuffle_seed, "pack", 0, len(source))
    parts = [
        (folder / f"shard-{number:06d}.tar", order[start : start + packing.samples_per_shard])
        for number, start in enumerate(range(0, len(order), packing.samples_per_shard))
    ]
    shards: dict[str, Shard] = {}
    summary = PackingSummary()
    own = parts[part[0] :: part[1]]
    finished, total = 0, sum(len(rows) for _, rows in own)
    for shard, of_shard in _write_shards(source, own, shape, packing, processes):
        shards[shard.name] = shard
        summary.add(of_shard)
        finished += shard.samples + len(of_shard.skipped)
        progress(finished, total)
    others = [path for path, _ in parts if path.name not in shards]
    if not all(index_path(path).is_file() for path in others):
        return None, summary
    shards |= {path.name: describe_shard(path) for path in others}
    manifest = Manifest(
        source=printable(source.description),
        classes=source.classes,
        channels=shape[0],
        bits=bits,
        height=shape[1],
        width=shape[2],
        shards=tuple(shards[path.name] for path, _ in parts if shards[path.name].samples),
    )
    if not manifest.samples:
        raise GanscaleError(f"{source.description}: none of its images could be read")
    manifest.save(folder)
    return manifest, summary


def _check_class_names(source: Source) -> None:
    for name in source.classes:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise GanscaleError(
                f"{source.description}: the name of class {name!a} is not valid UTF-8; "
                "rename its folder"
            ) from None


def _find_packed(folder: Path, plan: dict[str, object]) -> Manifest | None:
    """Return the manifest if `plan` has already been carried out; note the plan in a new folder."""
    path = folder / PLAN
    text = json.dumps(plan, indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".lock"
    with FileLock(lock):  # several parts may start at once
        if not path.is_file():
            if {inside.name for inside in folder.iterdir()} - {lock.name, WORKSPACE}:
                raise GanscaleError(
                    f"{folder}: not empty, and not packed by ganscale; choose another folder"
                )
            write_atomically(path, text.encode())
            return None
    if path.read_text(encoding="utf-8") != text:
        raise GanscaleError(
            f"{folder}: already holds another packed dataset (described in {path}); "
            "remove the folder or choose another one"
        )
    try:
        return load_manifest(folder)
    except GanscaleError:
        return None


def _image_shape(source: Source, packing: Packing) -> tuple[tuple[int, int, int], Literal[8, 16]]:
    """Return (channels, height, width) and bits of the packed images, as the first readable has."""
    for i in range(len(source)):
        try:
            first = _read_upright(source, i)
        except GanscaleError:
            if packing.on_error == "raise":
                raise
            continue
        height, width = size_of(first)
        if packing.size is not None:
            given = packing.size
            height, width = given if isinstance(given, tuple) else (given, given)
        if max(height, width) > MAX_SIDE:
            raise GanscaleError(
                f"{source.description}: images of {width}×{height} pixels; no side may exceed "
                f"{MAX_SIDE:,}: give a smaller --size"
            )
        shape = (packing.channels or channels_of(first), height, width)
        if shape[0] > MAX_CHANNELS:
            raise GanscaleError(
                f"{source.description}: {shape[0]} channels; at most {MAX_CHANNELS} are possible"
            )
        return shape, 16 if (packing.bits or bits_of(first)) == 16 else 8
    raise GanscaleError(f"{source.description}: none of its images could be read")


def _read_upright(source: Source, i: int) -> AnyImage:
    image = source.image(i)
    try:
        return turn_upright(image) if isinstance(image, Image.Image) else image
    except ValueError as error:
        raise UnusableImageError(
            f"{source.description}: image {i} cannot be used ({error})"
        ) from None


def _write_shards(
    source: Source,
    parts: list[tuple[Path, np.ndarray]],
    shape: tuple[int, int, int],
    packing: Packing,
    processes: int,
) -> Iterator[tuple[Shard, PackingSummary]]:
    """Write the shards; yield each when it is finished, in any order."""
    if processes <= 1 or len(parts) == 1:
        for path, order in parts:
            yield write_shard(source, path, order, shape, packing)
        return
    with process_pool(min(processes, len(parts)), __name__) as pool:
        tasks = [pool.submit(write_shard, source, p, o, shape, packing) for p, o in parts]
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
