"""Access to the files of a packed dataset, in a folder or at an address behind the node's cache."""

from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ganscale.config import Data
from ganscale.data.shards.index import Table, load_index, max_index_bytes
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
    """Provides the files of a dataset as local files."""

    location: str

    def address(self, name: str) -> str | Path:
        """Return the path of a file that the manifest names, or the address to fetch it from."""

    def manifest(self) -> Manifest:
        """Return the dataset's current manifest."""

    def tar(self, shard: Shard) -> Path:
        """Return the local file of a shard; a fetched one matches the manifest's SHA-256."""

    def index(self, shard: Shard, classes: int) -> Table:
        """Return the verified index of a shard; raise `GanscaleError` if it is damaged."""


class _Storage:
    """The common part of both kinds: fetch each file whose name is an address."""

    def __init__(self, location: str, cache: ShardCache):
        self.location = location
        self._cache = cache

    def address(self, name: str) -> str | Path:
        """Return the path or the address of a file that the manifest names."""
        raise NotImplementedError

    def tar(self, shard: Shard) -> Path:
        """Return the local file of a shard."""
        place = self.address(shard.name)
        if isinstance(place, Path):
            return place
        return self._cache.fetch(place, shard.bytes, shard.sha256)

    def index(self, shard: Shard, classes: int) -> Table:
        """Return the verified index of a shard."""
        place = self.address(shard.index_name)
        if not isinstance(place, Path):
            limit = max_index_bytes(shard.samples)
            place = self._cache.fetch(place, None, shard.index_sha256, max_bytes=limit)
        try:
            return load_index(place, shard, classes)
        except ValueError as error:
            raise GanscaleError(
                f"{self.location}: shard {shard.name}: {error}; pack or index the dataset again"
            ) from None


class LocalStorage(_Storage):
    """A dataset in a folder, whose manifest may also name remote files (`ganscale index`)."""

    def address(self, name: str) -> str | Path:
        """Return the path of a file in the folder, or `name` itself if it is an address."""
        return name if is_remote(name) else Path(self.location) / name

    def manifest(self) -> Manifest:
        """Return the manifest in the folder."""
        return load_manifest(self.location)


class RemoteStorage(_Storage):
    """A dataset at an address, whose manifest may name only files on the same server."""

    def __init__(self, url: str, cache: ShardCache):
        super().__init__(url.rstrip("/"), cache)

    def address(self, name: str) -> str | Path:
        """Return a file's address; raise `GanscaleError` if it is on another server."""
        if not is_remote(name):
            return f"{self.location}/{name}"
        if urlsplit(name)[:2] != urlsplit(self.location)[:2]:
            raise GanscaleError(
                f"{self.location}: its manifest names {name}, which is not on the same server "
                "and therefore not fetched"
            )
        return name

    def manifest(self) -> Manifest:
        """Download the manifest and return it."""
        url = f"{self.location}/{MANIFEST}"
        path = self._cache.fetch(url, check=parse_manifest, max_bytes=MAX_MANIFEST_BYTES)
        return parse_manifest(path)


def is_remote(location: str) -> bool:
    """Return whether a location is an address rather than a path."""
    return "://" in location


def expand_braces(pattern: str) -> list[str]:
    """Return the paths or addresses that a brace pattern such as `{0000..0099}.tar` names."""
    import webdataset as wds  # a dataset in a folder does without

    try:
        names: list[str] = wds.shardlists.expand_urls(pattern)
    except ValueError as error:
        raise GanscaleError(f"{pattern}: not a valid brace pattern ({error})") from None
    return names


def cache_folder(data: Data) -> Path:
    """Return the folder of this node's cache; the default one if the config says to bypass it."""
    folder = Data().cache if data.cache == "none" else data.cache
    return Path(folder).expanduser()


def open_cache(data: Data) -> ShardCache:
    """Return this node's cache of remote files."""
    return ShardCache(cache_folder(data), int(data.cache_gib * 2**30))


def open_storage(location: str, data: Data) -> Storage:
    """Return the storage of the dataset at a path or an address."""
    if location.startswith("pipe:"):
        raise GanscaleError(f"{location}: pipe: requires data.reader=streaming")
    kind = RemoteStorage if is_remote(location) else LocalStorage
    return kind(location, open_cache(data))
