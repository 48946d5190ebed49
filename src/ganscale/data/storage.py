"""Where the files of a packed set lie: a folder, or an address behind the node's cache."""

from pathlib import Path
from typing import Protocol

from ganscale.config import Data
from ganscale.data.cache import ShardCache
from ganscale.data.manifest import MANIFEST, Manifest, load_manifest, parse_manifest
from ganscale.errors import GanscaleError


class Storage(Protocol):
    """Gives the files of a set as local ones."""

    location: str

    def path(self, name: str, size: int | None = None, total: str | None = None) -> Path:
        """A local file of that name, with this size and SHA-256 where it is fetched."""

    def manifest(self) -> Manifest:
        """The set's manifest, as it is now."""


class LocalStorage:
    """A folder; files whose names are addresses are fetched (`ganscale index` names such)."""

    def __init__(self, folder: str, cache: ShardCache):
        self.location = folder
        self._cache = cache

    def path(self, name: str, size: int | None = None, total: str | None = None) -> Path:
        """The file in the folder, or in the cache where the name is an address."""
        if is_remote(name):
            return self._cache.fetch(name, size, total)
        return Path(self.location) / name

    def manifest(self) -> Manifest:
        """The manifest in the folder."""
        return load_manifest(self.location)


class RemoteStorage:
    """An address; files whose names are addresses themselves are fetched from there."""

    def __init__(self, url: str, cache: ShardCache):
        self.location = url.rstrip("/")
        self._cache = cache

    def path(self, name: str, size: int | None = None, total: str | None = None) -> Path:
        """The file, fetched into the cache if it is not there."""
        url = name if is_remote(name) else f"{self.location}/{name}"
        return self._cache.fetch(url, size, total)

    def manifest(self) -> Manifest:
        """The manifest at the address."""
        path = self._cache.fetch(f"{self.location}/{MANIFEST}", check=parse_manifest)
        return parse_manifest(path)


def is_remote(location: str) -> bool:
    """Whether it is an address rather than a path."""
    return "://" in location


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
