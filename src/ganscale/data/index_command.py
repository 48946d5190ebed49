"""The `ganscale index` command: manifest and index for WebDataset shards made elsewhere."""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import webdataset as wds
from PIL import Image

from ganscale.config import Data
from ganscale.data.inspect_command import summary
from ganscale.data.manifest import (
    LABEL,
    OFFSET,
    SIZE,
    Manifest,
    Shard,
    index_tar,
    save_index,
    sha256,
)
from ganscale.data.storage import is_remote, open_cache
from ganscale.errors import GanscaleError

SIZES_READ = 1000  # images of a shard whose headers say whether sizes differ


def run(options: argparse.Namespace) -> None:
    """Index the shards and write the manifest into the folder."""
    folder: Path = options.out
    manifest = index_shards(_expanded(options.shards), folder, options.label)
    print("\n".join(summary(str(folder), manifest, folder)))


def _expanded(patterns: Sequence[str]) -> list[str]:
    """Brace patterns and folders written out."""
    shards: list[str] = []
    for pattern in patterns:
        if pattern.startswith("pipe:"):
            raise GanscaleError(f"{pattern}: a command's output has no offsets to index")
        if not is_remote(pattern) and Path(pattern).is_dir():
            shards += sorted(map(str, Path(pattern).glob("*.tar")))
        else:
            shards += wds.shardlists.expand_urls(pattern)
    if not shards:
        raise GanscaleError(f"{' '.join(patterns)}: no shards (*.tar)")
    return shards


def index_shards(shards: Sequence[str], folder: Path, label: str | None = None) -> Manifest:
    """Write an index for each shard and the manifest of all into `folder`.

    Shards in the folder are named relative to it, others by their path or address. `label` is
    the key of a JSON member that holds the class number, where there is no `cls` member.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cache = open_cache(Data())
    described: list[Shard] = []
    sizes: set[tuple[int, int]] = set()
    modes: set[str] = set()
    classes = 0
    for number, address in enumerate(shards):
        path = cache.fetch(address) if is_remote(address) else Path(address)
        table = index_tar(path, label)
        if not len(table):
            raise GanscaleError(f"{address}: no samples in it")
        classes = max(classes, int(table[:, LABEL].max()) + 1)
        _read_headers(path, table, sizes, modes)
        index = f"{number:06d}.index.npy"
        save_index(folder / index, table)
        inside = not is_remote(address) and path.resolve().parent == folder.resolve()
        described.append(
            Shard(
                name=path.name if inside else _absolute(address),
                samples=len(table),
                bytes=path.stat().st_size,
                sha256=sha256(path),
                index_sha256=sha256(folder / index),
                index=index,
            )
        )
    alike = sizes.pop() if len(sizes) == 1 else (None, None)
    manifest = Manifest(
        source="shards made elsewhere",
        classes=tuple(str(i) for i in range(classes)),
        channels=1 if modes <= {"L", "1"} else 3,
        height=alike[0],
        width=alike[1],
        shards=tuple(described),
    )
    manifest.save(folder)
    return manifest


def _absolute(address: str) -> str:
    return address if is_remote(address) else str(Path(address).resolve())


def _read_headers(
    path: Path, table: np.ndarray, sizes: set[tuple[int, int]], modes: set[str]
) -> None:
    """Note sizes and colour modes; an unreadable image is left for the reader to name."""
    with path.open("rb") as file:
        for offset, size in table[:SIZES_READ, [OFFSET, SIZE]].tolist():
            file.seek(offset)
            try:
                with Image.open(io.BytesIO(file.read(size))) as image:
                    sizes.add((image.height, image.width))
                    modes.add(image.mode)
            except (OSError, SyntaxError, Image.DecompressionBombError):
                continue
