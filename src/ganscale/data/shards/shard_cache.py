"""Remote files through a folder of this node: whole, checked, bounded in size, fetched once.

A file is named by its whole address, so that `train/0000.tar` and `val/0000.tar` do not meet.
Processes of a node share the folder: a lock a file lets one of them download it while the others
wait, and a lock on the folder keeps the sum of what is there, downloads in progress included,
under the limit. A file that was there already is checked when a run first opens it. Only files
that the cache itself has named count and are removed, since the folder may hold other files.
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

TRIES = 6
FIRST_WAIT_S = 0.5  # before the second try; doubled each time, with jitter
SAME_RUN_S = 600.0  # the processes of a run start within so long of each other
LEFT_BEHIND_S = 3600.0  # a download that has not grown for so long was killed
PART, VERIFIED, LOCK = ".part", ".verified", ".lock"
OWN_NAME = re.compile(r"[0-9a-f]{32}(\.[0-9]+-[0-9]+\.part)?", re.ASCII)

Check = Callable[[Path], object]

log = logging.getLogger("ganscale")


class ShardCache:
    """A bounded folder of downloaded files."""

    def __init__(self, folder: Path, limit_bytes: int, stall_s: float | None = None):
        self.folder = folder.expanduser()
        self.limit_bytes = limit_bytes
        self._stall_s = stall_s or download.STALL_S
        self._since = time.time()
        self._verified: set[tuple[str, int, int]] = set()

    def fetch(
        self,
        url: str,
        size: int | None = None,
        total: str | None = None,
        check: Check | None = None,
        most: int | None = None,
    ) -> Path:
        """The local copy of a file, downloaded if need be.

        `size` and `total` (SHA-256) are what the file must have, `most` the bytes that it may have
        where its size is not known. A file with a `check` of its own instead, which raises
        `ValueError` on a damaged one, may change and is always fetched anew.
        Raises `GanscaleError` naming the address where the file cannot be had after several
        tries, or is not what it must be.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(f"{url} {total}".encode(errors="replace")).hexdigest()[:32]
        path = self.folder / name
        with FileLock(self.folder / f"{name}{LOCK}"):
            if check is None and path.is_file() and self._is_sound(url, path, size, total):
                # Used now: the last to make room. Its time of change says whether it is the same.
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
            else:
                self._download(url, path, size, total, check, most)
        return path

    def used_bytes(self) -> int:
        """Size of all that is kept, downloads in progress at their full size."""
        return sum(p.stat().st_size for p in self._files())

    def _files(self) -> list[Path]:
        """What the cache has put there, and nothing that somebody keeps beside it."""
        return [p for p in self.folder.iterdir() if OWN_NAME.fullmatch(p.name) and p.is_file()]

    def _is_sound(self, url: str, path: Path, size: int | None, total: str | None) -> bool:
        """Whether a file in the cache is still what it was: it is read once for a run on a node."""
        if total is None:
            return size is None or path.stat().st_size == size
        state = _state(path)
        if state in self._verified or self._was_verified_lately(path, state):
            self._verified.add(state)
            return True
        try:
            _check(path, size, total)
        except ValueError as error:
            log.warning("%s: its copy in %s is damaged (%s)", url, self.folder, error)
            return False
        self._note_verified(path)
        return True

    def _note_verified(self, path: Path) -> None:
        self._verified.add(_state(path))
        path.with_suffix(VERIFIED).write_text(f"{_state(path)}")

    def _was_verified_lately(self, path: Path, state: tuple[str, int, int]) -> bool:
        """Whether another process of this run has just read it, so that this one need not."""
        record = path.with_suffix(VERIFIED)
        try:
            same = record.read_text() == f"{state}"
            return same and record.stat().st_mtime > self._since - SAME_RUN_S
        except (OSError, ValueError):
            return False

    def _download(
        self,
        url: str,
        path: Path,
        size: int | None,
        total: str | None,
        check: Check | None,
        most: int | None,
    ) -> None:
        wait = FIRST_WAIT_S
        for attempt in range(1, TRIES + 1):
            partial = path.with_suffix(f".{os.getpid()}-{attempt}{PART}")
            transfer = Download(url, size, most, self.limit_bytes, partial, self._reserve)
            try:
                transfer.run(self._stall_s)
                _check(partial, transfer.expected, total)
                if check is not None:
                    check(partial)
                partial.replace(path)
                if total is not None:
                    self._note_verified(path)
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
        with FileLock(self.folder / f"folder{LOCK}"):
            if size > self.limit_bytes:
                raise GanscaleError(
                    f"{url}: {size / 2**30:.3f} GiB do not fit into data.cache_gib="
                    f"{self.limit_bytes / 2**30:.3f}; raise it"
                )
            for left in (p for p in self._files() if p.suffix == PART):
                if time.time() - left.stat().st_mtime > LEFT_BEHIND_S:
                    left.unlink()
            kept = sorted(
                (p for p in self._files() if p.suffix != PART),
                key=lambda p: p.stat().st_atime_ns,
            )
            used = self.used_bytes()
            for oldest in kept:
                if used + size <= self.limit_bytes:
                    break
                used -= oldest.stat().st_size
                oldest.unlink()  # a process that has it open keeps what it has
                oldest.with_suffix(VERIFIED).unlink(missing_ok=True)
            with partial.open("wb") as file:
                file.truncate(size)


def _state(path: Path) -> tuple[str, int, int]:
    """What changes when a file does."""
    about = path.stat()
    return path.name, about.st_size, about.st_mtime_ns


def _check(path: Path, size: int | None, total: str | None) -> None:
    """Whether all arrived: a cut connection ends like a finished one."""
    got = path.stat().st_size
    if size is not None and got != size:
        raise ValueError(f"{got:,} of {size:,} bytes arrived")
    if total is not None and sha256_of_file(path) != total:
        raise ValueError("its SHA-256 is not the manifest's")


def _is_final(error: Exception) -> bool:
    """A refusal that will not change: no such address, the file is not there, or not for us."""
    if isinstance(error, http.client.InvalidURL | FileNotFoundError | PermissionError):
        return True
    return isinstance(error, urllib.error.HTTPError) and error.code in (401, 403, 404, 410)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
