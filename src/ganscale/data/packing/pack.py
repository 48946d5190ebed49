"""`ganscale pack`: pack any source into WebDataset shards, in parallel and reproducibly.

The same source and options give the same bytes. An interrupted packing resumes: finished shards
are kept. The samples are shuffled once, here, because a reader shuffles only within blocks of
neighbouring shards.
"""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from PIL import Image

from ganscale.data.images import count_channels, turn_upright
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
from ganscale.data.shards.manifest import MAX_SAMPLES, MAX_SIDE, Manifest, Shard, load_manifest
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
    channels, height, width = _image_shape(source, packing)
    shape = (channels, height, width)
    plan = {
        "source": source.description,
        "samples": len(source),
        "shape": list(shape),
        **asdict(packing),
    }
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
        channels=channels,
        height=height,
        width=width,
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
    if path.read_text() != text:
        raise GanscaleError(
            f"{folder}: already holds another packed dataset (described in {path}); "
            "remove the folder or choose another one"
        )
    try:
        return load_manifest(folder)
    except GanscaleError:
        return None


def _image_shape(source: Source, packing: Packing) -> tuple[Literal[1, 3], int, int]:
    """Return (channels, height, width) of the packed images, from the first readable image."""
    for i in range(len(source)):
        try:
            first = _read_upright(source, i)
        except GanscaleError:
            if packing.on_error == "raise":
                raise
            continue
        height, width = first.height, first.width
        if packing.size is not None:
            given = packing.size
            height, width = given if isinstance(given, tuple) else (given, given)
        if max(height, width) > MAX_SIDE:
            raise GanscaleError(
                f"{source.description}: images of {width}×{height} pixels; no side may exceed "
                f"{MAX_SIDE:,}: give a smaller --size"
            )
        return packing.channels or count_channels(first), height, width
    raise GanscaleError(f"{source.description}: none of its images could be read")


def _read_upright(source: Source, i: int) -> Image.Image:
    try:
        return turn_upright(source.image(i))
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
