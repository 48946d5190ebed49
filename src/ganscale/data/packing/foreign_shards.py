"""Manifest and index for WebDataset shards made elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ganscale.config import Data
from ganscale.data.images import read_header
from ganscale.data.shards.index import LABEL, OFFSET, SIZE, Table, index_tar, save_index
from ganscale.data.shards.manifest import (
    FETCHED_FROM,
    MAX_SIDE,
    Manifest,
    Shard,
    check_name,
    first_mistake,
)
from ganscale.data.shards.storage import expand_braces, is_remote, open_cache
from ganscale.errors import GanscaleError
from ganscale.files import open_regular_file, sha256_of_file

SIZES_READ = 1000  # images of a shard whose headers say whether sizes differ


def expand_shards(patterns: Sequence[str]) -> list[str]:
    """Return the shards that tars, addresses, folders and brace patterns name."""
    shards: list[str] = []
    for pattern in patterns:
        if pattern.startswith("pipe:"):
            raise GanscaleError(f"{pattern}: a command's output has no offsets to index")
        if not is_remote(pattern) and Path(pattern).is_dir():
            shards += sorted(map(str, Path(pattern).glob("*.tar")))
        else:
            shards += expand_braces(pattern)
    if not shards:
        raise GanscaleError(f"{' '.join(patterns)}: no shards (*.tar)")
    return shards


def index_shards(shards: Sequence[str], folder: Path, label: str | None = None) -> Manifest:
    """Write an index for each shard and the manifest of all into `folder`.

    Shards in the folder are named relative to it, others by their path or address. `label` is
    the key of a JSON member that holds the class number, where there is no `cls` member.
    """
    _check_addresses(shards)
    try:
        manifest = _indexed(shards, folder, label)
    except ValidationError as error:
        raise GanscaleError(f"{folder}: no set can be made ({first_mistake(error)})") from None
    manifest.save(folder)
    return manifest


def _check_addresses(shards: Sequence[str]) -> None:
    """Before any is fetched: the manifest could not name it, or no reader would fetch it."""
    for address in filter(is_remote, shards):
        try:
            check_name(address)
        except ValueError:
            known = ", ".join(sorted(FETCHED_FROM))
            raise GanscaleError(
                f"{address}: such addresses are not fetched; give a path, or one of {known}"
            ) from None


def _indexed(shards: Sequence[str], folder: Path, label: str | None) -> Manifest:
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
            raise GanscaleError(f"{address}: no samples in it")
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
    alike = sizes.pop() if len(sizes) == 1 else (None, None)
    if max(side or 0 for side in alike) > MAX_SIDE:
        raise GanscaleError(
            f"{shards[0]}: images of {alike[1]}×{alike[0]} pixels; no side may be over {MAX_SIDE:,}"
        )
    return Manifest(
        source="shards made elsewhere",
        classes=tuple(str(i) for i in range(classes)),
        channels=3 if colour else 1,
        height=alike[0],
        width=alike[1],
        shards=tuple(described),
    )


def _absolute(address: str) -> str:
    return address if is_remote(address) else str(Path(address).resolve())


def _read_headers(path: Path, table: Table, sizes: set[tuple[int, int]]) -> bool:
    """Note sizes, and return whether any is in colour; the reader names what is unreadable."""
    colour = False
    with open_regular_file(path) as file:
        for offset, size in table[:SIZES_READ, [OFFSET, SIZE]].tolist():
            file.seek(offset)
            try:
                height, width, channels = read_header(file.read(size))
            except ValueError:
                continue
            sizes.add((height, width))
            colour |= channels == 3
    return colour
