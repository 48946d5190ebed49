"""Indexing of WebDataset shards made elsewhere: their manifest and indexes."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ganscale.config import Data
from ganscale.data.images import read_header
from ganscale.data.shards.index import LABEL, OFFSET, SIZE, Table, index_tar, save_index
from ganscale.data.shards.manifest import (
    FETCHABLE_SCHEMES,
    MAX_SIDE,
    Manifest,
    Shard,
    check_shard_name,
)
from ganscale.data.shards.storage import expand_braces, is_remote, open_cache
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file, read_at, sha256_of_file
from ganscale.validation import first_mistake

HEADERS_READ = 1000  # per shard, to find out whether image sizes differ


def expand_shards(patterns: Sequence[str]) -> list[str]:
    """Return the shards that tars, addresses, folders and brace patterns name."""
    shards: list[str] = []
    for pattern in patterns:
        if pattern.startswith("pipe:"):
            raise GanscaleError(f"{pattern}: the output of a command cannot be indexed")
        if not is_remote(pattern) and Path(pattern).is_dir():
            shards += sorted(map(str, Path(pattern).glob("*.tar")))
        else:
            shards += expand_braces(pattern)
    if not shards:
        raise GanscaleError(f"{' '.join(patterns)}: no shards (*.tar) found")
    return shards


def index_shards(shards: Sequence[str], folder: Path, label: str | None = None) -> Manifest:
    """Write an index for each shard and one manifest into `folder`; return the manifest.

    The manifest names shards in the folder relative to it, and others by their path or address.
    `label` is the key of the class number in a `json` member, for samples without a `cls` member.
    """
    _check_addresses(shards)
    try:
        manifest = _index_all(shards, folder, label)
    except ValidationError as error:
        raise GanscaleError(
            f"{folder}: the shards cannot be described in a manifest ({first_mistake(error)})"
        ) from None
    manifest.save(folder)
    return manifest


def _check_addresses(shards: Sequence[str]) -> None:
    """Raise `GanscaleError`, before anything is fetched, for an address that readers refuse."""
    for address in filter(is_remote, shards):
        try:
            check_shard_name(address)
        except ValueError:
            known = ", ".join(sorted(FETCHABLE_SCHEMES))
            raise GanscaleError(
                f"{address}: such addresses are not fetched; give a path, or one of {known}"
            ) from None


def _index_all(shards: Sequence[str], folder: Path, label: str | None) -> Manifest:
    folder.mkdir(parents=True, exist_ok=True)
    cache = open_cache(Data())
    described: list[Shard] = []
    sizes: set[tuple[int, int]] = set()
    colour = False
    classes = 0
    for number, address in enumerate(shards):
        path = cache.fetch(address) if is_remote(address) else Path(address)
        table = index_tar(path, label)
        if not len(table):
            raise GanscaleError(f"{address}: contains no samples")
        classes = max(classes, int(table[:, LABEL].max()) + 1)
        colour |= _read_headers(path, table, sizes)
        index = f"{number:06d}.index.npy"
        save_index(folder / index, table)
        inside = not is_remote(address) and path.resolve().parent == folder.resolve()
        described.append(
            Shard(
                name=path.name if inside else _absolute(address),
                samples=len(table),
                bytes=path.stat().st_size,
                sha256=sha256_of_file(path),
                index_sha256=sha256_of_file(folder / index),
                index=index,
            )
        )
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)
    if max(height or 0, width or 0) > MAX_SIDE:
        raise GanscaleError(
            f"{shards[0]}: images of {width}×{height} pixels; no side may exceed {MAX_SIDE:,}"
        )
    return Manifest(
        source="shards made elsewhere",
        classes=tuple(str(i) for i in range(classes)),
        channels=3 if colour else 1,
        height=height,
        width=width,
        shards=tuple(described),
    )


def _absolute(address: str) -> str:
    return address if is_remote(address) else str(Path(address).resolve())


def _read_headers(path: Path, table: Table, sizes: set[tuple[int, int]]) -> bool:
    """Add the images' sizes to `sizes`; return whether any image is in colour.

    Unreadable images are left for the reader to report.
    """
    colour = False
    with open_regular_file(path) as file:
        for offset, size in table[:HEADERS_READ, [OFFSET, SIZE]].tolist():
            try:
                height, width, channels = read_header(read_at(file.fileno(), offset, size))
            except ValueError:
                continue
            sizes.add((height, width))
            colour |= channels == 3
    return colour
