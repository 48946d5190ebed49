"""Remote files through a folder of this node: whole, checked, bounded in size, fetched once.

A file is named by its whole address, so that `train/0000.tar` and `val/0000.tar` do not meet.
Processes of a node share the folder: a lock a file lets one of them download it while the others
wait, and a lock on the folder keeps the sum of what is there, downloads in progress included,
under the limit.
"""

import hashlib
import http.client
import logging
import random
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import fsspec
from filelock import FileLock

from ganscale.data.manifest import sha256
from ganscale.errors import GanscaleError

TRIES = 6
FIRST_WAIT_S = 0.5  # before the second try; doubled each time, with jitter
STALL_S = 30.0  # a connection that sends nothing for so long is given up
CHUNK = 1 << 20

Check = Callable[[Path], object]

log = logging.getLogger("ganscale")


class ShardCache:
    """A bounded folder of downloaded files."""

    def __init__(self, folder: Path, limit_bytes: int, stall_s: float = STALL_S):
        self.folder = folder.expanduser()
        self.limit_bytes = limit_bytes
        self._stall_s = stall_s

    def fetch(
        self,
        url: str,
        size: int | None = None,
        total: str | None = None,
        check: Check | None = None,
    ) -> Path:
        """The local copy of a file, downloaded if need be.

        `size` and `total` (SHA-256) are what the file must have. A file with a `check` of its own
        instead, which raises `ValueError` on a damaged one, may change and is always fetched anew.
        Raises `GanscaleError` naming the address where the file cannot be had after several
        tries, or is not what it must be.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(f"{url} {total}".encode()).hexdigest()[:32]
        path = self.folder / name
        with FileLock(self.folder / f"{name}.lock"):
            known = path.is_file() and (size is None or path.stat().st_size == size)
            if known and check is None:
                path.touch()  # used now: the last to make room
            else:
                self._download(url, path, size, total, check)
        return path

    def used_bytes(self) -> int:
        """Size of all that is kept, downloads in progress at their full size."""
        return sum(p.stat().st_size for p in self._files())

    def _files(self) -> list[Path]:
        return [p for p in self.folder.iterdir() if p.suffix != ".lock" and p.is_file()]

    def _download(
        self, url: str, path: Path, size: int | None, total: str | None, check: Check | None
    ) -> None:
        partial = path.with_suffix(".part")
        wait = FIRST_WAIT_S
        for attempt in range(1, TRIES + 1):
            try:
                with _opened(url, self._stall_s) as (source, announced):
                    expected = size if size is not None else announced
                    self._reserve(url, partial, expected or 0)
                    with partial.open("r+b") as file:
                        shutil.copyfileobj(source, file, CHUNK)
                        file.truncate()
                _check(partial, expected, total)
                if check is not None:
                    check(partial)
                partial.replace(path)
                return
            except BaseException as error:  # file systems behind fsspec have errors of their own
                partial.unlink(missing_ok=True)
                if isinstance(error, GanscaleError) or not isinstance(error, Exception):
                    raise
                if attempt == TRIES or _is_final(error):
                    raise GanscaleError(
                        f"{url}: cannot be had after {attempt} tries ({_in_words(error)})"
                    ) from None
                log.info("%s: %s; trying again in %.1f s", url, _in_words(error), wait)
            time.sleep(wait * random.uniform(0.5, 1.5))
            wait *= 2

    def _reserve(self, url: str, partial: Path, size: int) -> None:
        """Make room and take it, so that no other download counts on the same bytes."""
        with FileLock(self.folder / "folder.lock"):
            partial.unlink(missing_ok=True)
            if size > self.limit_bytes:
                raise GanscaleError(
                    f"{url}: {size / 2**30:.3f} GiB do not fit into data.cache_gib="
                    f"{self.limit_bytes / 2**30:.3f}; raise it"
                )
            kept = sorted(
                (p for p in self._files() if p.suffix != ".part"),
                key=lambda p: p.stat().st_mtime_ns,
            )
            used = self.used_bytes()
            for oldest in kept:
                if used + size <= self.limit_bytes:
                    break
                used -= oldest.stat().st_size
                oldest.unlink()  # a process that has it mapped keeps what it has
            with partial.open("wb") as file:
                file.truncate(size)


@contextmanager
def _opened(url: str, stall_s: float) -> Iterator[tuple[IO[bytes], int | None]]:
    """The bytes of a remote file, and how many there are where the other side says so."""
    if url.startswith(("http://", "https://")):
        with urllib.request.urlopen(url, timeout=stall_s) as response:
            length = response.headers.get("Content-Length")
            yield response, int(length) if length else None
        return
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise GanscaleError(f"{url}: {error}") from None
    with filesystem.open(path, "rb") as file:
        yield file, filesystem.size(path)


def _check(path: Path, size: int | None, total: str | None) -> None:
    """Whether all arrived: a cut connection ends like a finished one."""
    got = path.stat().st_size
    if size is not None and got != size:
        raise ValueError(f"{got:,} of {size:,} bytes arrived")
    if total is not None and sha256(path) != total:
        raise ValueError("its SHA-256 is not the manifest's")


def _is_final(error: Exception) -> bool:
    """A refusal that will not change: no such address, the file is not there, or not for us."""
    if isinstance(error, http.client.InvalidURL | FileNotFoundError | PermissionError):
        return True
    return isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
