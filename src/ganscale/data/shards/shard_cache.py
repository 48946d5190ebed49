"""A cache of remote files in a folder of this node, limited in size and verified.

A file is named after its whole address, so `train/0000.tar` and `val/0000.tar` do not collide. The
processes of a node share the folder: a lock per file lets one of them download while the others
wait, and a lock on the folder keeps the total size, including downloads in progress, below the
limit. A file from an earlier run is verified when a run first opens it. The cache counts and
removes only the files that it named itself, because the folder may hold other files.
"""

import hashlib
import http.client
import logging
import os
import random
import re
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from ganscale.data.shards import download
from ganscale.data.shards.download import Download
from ganscale.errors import GanscaleError
from ganscale.files import sha256_of_file

MAX_ATTEMPTS = 6
FIRST_WAIT_S = 0.5  # before the second attempt; doubled each time, with jitter
SAME_RUN_S = 600.0  # the processes of a run start within this time of each other
ABANDONED_AFTER_S = 3600.0  # a download that has not grown for this long was killed
PART, VERIFIED, LOCK = ".part", ".verified", ".lock"
OWN_NAME = re.compile(r"[0-9a-f]{32}(\.[0-9]+-[0-9]+\.part)?", re.ASCII)

Check = Callable[[Path], object]

log = logging.getLogger("ganscale")


class ShardCache:
    """A folder of downloaded files with a size limit."""

    def __init__(self, folder: Path, limit_bytes: int, stall_s: float | None = None):
        self.folder = folder.expanduser()
        self.limit_bytes = limit_bytes
        self._stall_s = stall_s or download.STALL_S
        self._created = time.time()
        self._verified: set[tuple[str, int, int]] = set()

    def fetch(
        self,
        url: str,
        size: int | None = None,
        sha256: str | None = None,
        check: Check | None = None,
        max_bytes: int | None = None,
    ) -> Path:
        """Return the local copy of a file; download it if need be.

        The file must have this `size` and `sha256`. If its size is not known, it may have at most
        `max_bytes`. With a `check`, which raises `ValueError` for a damaged file, the file may
        change at its address and is always downloaded again.

        Raises `GanscaleError` naming the address if the download fails after several attempts, or
        if the file is not as required.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(f"{url} {sha256}".encode(errors="replace")).hexdigest()[:32]
        path = self.folder / name
        with FileLock(self.folder / f"{name}{LOCK}"):
            if check is None and path.is_file() and self._is_intact(url, path, size, sha256):
                # The access time says what to evict first; the change time, what was verified.
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            else:
                self._download(url, path, size, sha256, check, max_bytes)
        return path

    def used_bytes(self) -> int:
        """Return the size of all files, counting downloads in progress at their full size."""
        return sum(p.stat().st_size for p in self._files())

    def _files(self) -> list[Path]:
        """Return the files that the cache created, and none that someone else keeps beside them."""
        return [p for p in self.folder.iterdir() if OWN_NAME.fullmatch(p.name) and p.is_file()]

    def _is_intact(self, url: str, path: Path, size: int | None, sha256: str | None) -> bool:
        """Return whether a cached file is undamaged; read it only once per run and node."""
        if sha256 is None:
            return size is None or path.stat().st_size == size
        state = _state(path)
        if state in self._verified or self._was_verified_recently(path, state):
            self._verified.add(state)
            return True
        try:
            _check(path, size, sha256)
        except ValueError as error:
            log.warning("%s: its copy in %s is damaged (%s)", url, self.folder, error)
            return False
        self._record_verified(path)
        return True

    def _record_verified(self, path: Path) -> None:
        self._verified.add(_state(path))
        path.with_suffix(VERIFIED).write_text(f"{_state(path)}", encoding="utf-8")

    def _was_verified_recently(self, path: Path, state: tuple[str, int, int]) -> bool:
        """Return whether another process of this run has just verified the file."""
        record = path.with_suffix(VERIFIED)
        try:
            same = record.read_text(encoding="utf-8") == f"{state}"
            return same and record.stat().st_mtime > self._created - SAME_RUN_S
        except (OSError, ValueError):
            return False

    def _download(
        self,
        url: str,
        path: Path,
        size: int | None,
        sha256: str | None,
        check: Check | None,
        max_bytes: int | None,
    ) -> None:
        wait = FIRST_WAIT_S
        for attempt in range(1, MAX_ATTEMPTS + 1):
            partial = path.with_suffix(f".{os.getpid()}-{attempt}{PART}")
            download = Download(url, size, max_bytes, self.limit_bytes, partial, self._reserve)
            try:
                download.run(self._stall_s)
                _check(partial, download.expected, sha256)
                if check is not None:
                    check(partial)
                partial.replace(path)
                if sha256 is not None:
                    self._record_verified(path)
                return
            except BaseException as error:  # file systems behind fsspec raise errors of their own
                partial.unlink(missing_ok=True)
                if isinstance(error, GanscaleError) or not isinstance(error, Exception):
                    raise
                if attempt == MAX_ATTEMPTS or _is_permanent(error):
                    attempts = "1 attempt" if attempt == 1 else f"{attempt} attempts"
                    raise GanscaleError(
                        f"{url}: download failed after {attempts} ({_describe(error)})"
                    ) from None
                log.info("%s: %s; trying again in %.1f s", url, _describe(error), wait)
            time.sleep(wait * random.uniform(0.5, 1.5))
            wait *= 2

    def _reserve(self, url: str, partial: Path, size: int) -> None:
        """Evict files until `size` bytes fit, and claim them by creating `partial` at that size."""
        with FileLock(self.folder / f"folder{LOCK}"):
            if size > self.limit_bytes:
                raise GanscaleError(
                    f"{url}: {size / 2**30:.3f} GiB do not fit into data.cache_gib="
                    f"{self.limit_bytes / 2**30:.3f}; raise it"
                )
            for abandoned in (p for p in self._files() if p.suffix == PART):
                if time.time() - abandoned.stat().st_mtime > ABANDONED_AFTER_S:
                    abandoned.unlink()
            kept = sorted(
                (p for p in self._files() if p.suffix != PART),
                key=lambda p: p.stat().st_atime_ns,
            )
            used = self.used_bytes()
            for oldest in kept:
                if used + size <= self.limit_bytes:
                    break
                used -= oldest.stat().st_size
                oldest.unlink()  # a process that has the file open can still read it
                oldest.with_suffix(VERIFIED).unlink(missing_ok=True)
            with partial.open("wb") as file:
                file.truncate(size)


def _state(path: Path) -> tuple[str, int, int]:
    """Return the name, size and modification time, which together identify a file's content."""
    about = path.stat()
    return path.name, about.st_size, about.st_mtime_ns


def _check(path: Path, size: int | None, sha256: str | None) -> None:
    """Raise `ValueError` unless the file is complete: a broken connection looks like the end."""
    got = path.stat().st_size
    if size is not None and got != size:
        raise ValueError(f"{got:,} of {size:,} bytes arrived")
    if sha256 is not None and sha256_of_file(path) != sha256:
        raise ValueError("its SHA-256 differs from the manifest's")


def _is_permanent(error: Exception) -> bool:
    """Return whether trying again is pointless: a bad address, a missing file, or no access."""
    if isinstance(error, http.client.InvalidURL | FileNotFoundError | PermissionError):
        return True
    return isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
