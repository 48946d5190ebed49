"""Where the files of a packed set lie: a folder, or an address behind the node's cache."""

from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import webdataset as wds

from ganscale.config import Data
from ganscale.data.shards.index import Table, load_index, most_index_bytes
from ganscale.data.shards.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    Manifest,
    Shard,
    load_manifest,
    parse_manifest,
)
from ganscale.data.shards.shard_cache import ShardCache
from ganscale.errors import GanscaleError


class Storage(Protocol):
    """Gives the files of a set as local ones."""

    location: str

    def address(self, name: str) -> str | Path:
        """Where a file that the manifest names lies: a path, or an address to fetch it from."""

    def manifest(self) -> Manifest:
        """The set's manifest, as it is now."""

    def tar(self, shard: Shard) -> Path:
        """The local file of a shard; with the manifest's size and SHA-256 where it is fetched."""

    def index(self, shard: Shard, classes: int) -> Table:
        """The index of a shard, checked; `GanscaleError` naming the shard where it is damaged."""


class _Storage:
    """What both kinds have in common: files whose names are addresses are fetched."""

    def __init__(self, location: str, cache: ShardCache):
        self.location = location
        self._cache = cache

    def address(self, name: str) -> str | Path:
        """Where a file that the manifest names lies."""
        raise NotImplementedError

    def tar(self, shard: Shard) -> Path:
        """The local file of a shard."""
        place = self.address(shard.name)
        if isinstance(place, Path):
            return place
        return self._cache.fetch(place, shard.bytes, shard.sha256)

    def index(self, shard: Shard, classes: int) -> Table:
        """The index of a shard."""
        place = self.address(shard.index_name)
        if not isinstance(place, Path):
            most = most_index_bytes(shard.samples)
            place = self._cache.fetch(place, None, shard.index_sha256, most=most)
        try:
            return load_index(place, shard, classes)
        except ValueError as error:
            raise GanscaleError(
                f"{self.location}: shard {shard.name}: {error}; pack or index the set again"
            ) from None


class LocalStorage(_Storage):
    """A folder; files whose names are addresses are fetched (`ganscale index` names such)."""

    def address(self, name: str) -> str | Path:
        """The file in the folder, unless the name is an address."""
        return name if is_remote(name) else Path(self.location) / name

    def manifest(self) -> Manifest:
        """The manifest in the folder."""
        return load_manifest(self.location)


class RemoteStorage(_Storage):
    """An address; its manifest may name files at the same server only."""

    def __init__(self, url: str, cache: ShardCache):
        super().__init__(url.rstrip("/"), cache)

    def address(self, name: str) -> str | Path:
        """The file's address; `GanscaleError` where the manifest points to another server."""
        if not is_remote(name):
            return f"{self.location}/{name}"
        if urlsplit(name)[:2] != urlsplit(self.location)[:2]:
            raise GanscaleError(
                f"{self.location}: its manifest names {name}, which is not on the same server; "
                "nothing is fetched from there"
            )
        return name

    def manifest(self) -> Manifest:
        """The manifest at the address."""
        url = f"{self.location}/{MANIFEST}"
        path = self._cache.fetch(url, check=parse_manifest, most=MAX_MANIFEST_BYTES)
        return parse_manifest(path)


def is_remote(location: str) -> bool:
    """Whether it is an address rather than a path."""
    return "://" in location


def expand_braces(pattern: str) -> list[str]:
    """The paths or addresses that a brace pattern such as `{0000..0099}.tar` names."""
    try:
        names: list[str] = wds.shardlists.expand_urls(pattern)
    except ValueError as error:
        raise GanscaleError(f"{pattern}: not a pattern of names ({error})") from None
    return names


def open_cache(data: Data) -> ShardCache:
    """This node's cache; the default one where the config reads past it."""
    folder = Data().cache if data.cache == "none" else data.cache
    return ShardCache(Path(folder), int(data.cache_gib * 2**30))


def open_storage(location: str, data: Data) -> Storage:
    """The storage of a set at a path or an address."""
    if location.startswith("pipe:"):
        raise GanscaleError(f"{location}: pipe: works only with data.reader=streaming")
    kind = RemoteStorage if is_remote(location) else LocalStorage
    return kind(location, open_cache(data))


def fingerprint(data: Data) -> str:
    """What `ImageSet.fingerprint` is of the same data, without anything that reads images."""
    if data.reader == "streaming":
        return "streaming"
    paths = [part.path for part in data.mixture] or [data.path]
    return "-".join(open_storage(path, data).manifest().fingerprint for path in paths)
