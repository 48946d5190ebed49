"""Packed copies of a user's own images: each is made once, in the cache, and found again.

`data.path` may name a source of images (`packing/sources.py`) instead of a packed dataset. Its copy
lies in `data.cache` under `packed/`, in a folder named after everything that decides its bytes: the
source, the source's state (`source_state.py`) and the experiment's shape of an image. A changed
source therefore has another copy, and the older one stays for the runs that began with it. Nothing
removes a copy: the limit `data.cache_gib` is for files that can be downloaded again.
"""

import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ganscale.config import Data
from ganscale.data.packing.file_sources import UnusableImageError, short_name
from ganscale.data.packing.hub_source import is_hub_dataset, is_packed
from ganscale.data.packing.pack import PLAN, WORKSPACE, Progress, pack
from ganscale.data.packing.remote_sources import UnreachableError, is_archive
from ganscale.data.packing.shard_writer import Packing, PackingSummary
from ganscale.data.packing.source_state import source_state
from ganscale.data.packing.sources import Source, open_source
from ganscale.data.shards.manifest import MANIFEST, Manifest, load_manifest
from ganscale.data.shards.storage import cache_folder, is_remote
from ganscale.errors import GanscaleError
from ganscale.files import write_atomically
from ganscale.system_errors import describe_error, find_system_error

FORMAT = 1  # of a copy; another one makes every copy anew
ORIGIN = "origin.json"
NUMBER_OF_SHARDS = 64  # at least, so that as many processes can pack and a bar moves
SHARD_SAMPLES = range(256, 4097)
SHOWN = 10  # skipped images that are named in the log

Show = Callable[[str], AbstractContextManager[Progress]]
"""Shows the progress of a phase with this name."""

log = logging.getLogger("ganscale")


def is_source(location: str, data: Data) -> bool:
    """Return whether a location of the experiment is to be packed before it can be read."""
    if location.startswith("pipe:") or (data.is_streamed and location.endswith(".tar")):
        return False
    if is_hub_dataset(location):
        return not is_packed(location)
    if is_remote(location):
        return is_archive(location)
    path = Path(location)
    if not path.exists():
        return False
    return not ((path / MANIFEST).exists() or (path / PLAN).exists())


class Copies:
    """The packed copies in the cache that `data` names, for images of its shape."""

    def __init__(self, data: Data):
        self._data = data
        self._packing = Packing(
            size=data.resolution,
            channels=data.channels,
            bits=data.bits,
            on_error=data.on_error,
        )
        self.folder = cache_folder(data) / "packed"

    def find(self, source: str) -> Path | None:
        """Return the copy of a source as it is now; None if there is none."""
        copy = self._place(self._origin(source))
        return copy if (copy / MANIFEST).is_file() else None

    def find_fingerprint(self, fingerprint: str) -> Path | None:
        """Return the copy with this fingerprint, of whatever source; None if there is none."""
        for folder in sorted(self.folder.glob("*/")):
            try:
                if load_manifest(folder).fingerprint == fingerprint:
                    return folder
            except GanscaleError:  # being made, or damaged
                continue
        return None

    def make(self, source: str, show: Show) -> Path:
        """Return the copy of a source as it is now; pack it if there is none.

        One process packs, and others that want the same copy wait for it. If that process dies,
        one of them goes on where it was. Raises `GanscaleError` if the source cannot be packed.
        """
        _refuse_folder_of_sets(source)
        try:
            origin = self._origin(source)
            copy = self._place(origin)
            if (copy / MANIFEST).is_file():
                return copy
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock(source, copy):
                if not (copy / MANIFEST).is_file():
                    self._pack(source, origin, copy, show)
            return copy
        except UnusableImageError as error:
            raise GanscaleError(
                f"{error}; data.on_error=skip leaves out the images that cannot be used",
                every_rank=True,
            ) from None
        except BrokenProcessPool:
            raise GanscaleError(
                f"{source}: a process that packed it was killed, perhaps for want of memory; "
                "started again, packing goes on where it was"
            ) from None
        except OSError as error:
            cause = find_system_error(error) or error
            raise GanscaleError(
                f"{source}: cannot be packed into {self.folder} ({describe_error(cause)}); "
                "data.cache=FOLDER packs it elsewhere"
            ) from None

    def _origin(self, source: str) -> dict[str, Any]:
        """Return everything that decides the bytes of a source's copy.

        If a server cannot be reached, what it holds now is taken to be what it held last.
        """
        origin = {
            "format": FORMAT,
            "source": source if is_remote(source) else str(Path(source).resolve()),
            "split": self._data.split,
            "image_column": self._data.image_column,
            **asdict(self._packing),
        }
        origin = json.loads(json.dumps(origin))  # as it is read from a file
        try:
            return {**origin, "state": source_state(source)}
        except UnreachableError as error:
            earlier = self._earlier(origin)
            if not earlier:
                raise
            log.warning("%s; using the copy in %s", error, earlier[-1][0])
            return earlier[-1][1]

    def _earlier(self, origin: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
        """Return the copies of a source at any state, and their origins, oldest first."""
        found = []
        for note in self.folder.glob(f"*/{ORIGIN}"):
            try:
                other = json.loads(note.read_bytes())
                made = note.stat().st_mtime_ns
            except (OSError, ValueError):
                continue
            if {**other, "state": None} == {**origin, "state": None}:
                found.append((made, note.parent, other))
        return [(path, other) for _, path, other in sorted(found, key=lambda copy: copy[0])]

    def _place(self, origin: dict[str, Any]) -> Path:
        text = json.dumps(origin, sort_keys=True)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(origin["source"]).name)[:40]
        return self.folder / f"{stem}-{short_name(text)}"

    def _lock(self, source: str, copy: Path) -> FileLock:
        """Return the lock of a copy, taken; say so if another process holds it."""
        lock = FileLock(copy.with_name(f"{copy.name}.lock"))
        try:
            lock.acquire(timeout=0)
            lock.release()
        except Timeout:
            log.info("%s: another process is packing it; waiting for it to finish", source)
        return lock

    def _open(self, source: str, partial: Path) -> Source:
        """Open a source; if that fails and nothing was downloaded, leave no folder behind."""
        try:
            return open_source(
                source,
                split=self._data.split,
                workspace=partial / WORKSPACE,
                image_column=self._data.image_column,
                limit_bytes=int(self._data.cache_gib * 2**30),
            )
        except GanscaleError:
            with suppress(OSError):
                partial.rmdir()
            raise

    def _pack(self, source: str, origin: dict[str, Any], copy: Path, show: Show) -> None:
        """Pack into a folder beside the copy, which gets the copy's name when it is complete."""
        partial = copy.with_name(f"{copy.name}.partial")
        partial.mkdir(exist_ok=True)
        opened = self._open(source, partial)
        log.info("%s: packing %s images into %s, once", source, f"{len(opened):,}", copy)
        packing = replace(self._packing, samples_per_shard=_samples_per_shard(len(opened)))
        processes = _processes()
        with show(f"packing {opened.description}") as progress:
            manifest, packed = pack(opened, partial, packing, processes, progress)
        assert manifest is not None, "this was the only part"
        _report(source, opened, manifest, packed)
        shutil.rmtree(partial / WORKSPACE, ignore_errors=True)
        if self._origin(source) != origin:
            (partial / MANIFEST).unlink()
            raise GanscaleError(
                f"{source}: changed while it was being packed; start again when it is complete"
            )
        write_atomically(partial / ORIGIN, (json.dumps(origin, indent=2) + "\n").encode())
        partial.rename(copy)
        for older, _ in self._earlier(origin):
            if older != copy:
                log.info(
                    "%s has changed: its earlier copy remains in %s for runs that began with it",
                    source,
                    older,
                )


def _refuse_folder_of_sets(source: str) -> None:
    """Raise `GanscaleError` for a folder of packed datasets, whose contact sheets are images."""
    inside = [] if is_remote(source) else sorted(Path(source).glob(f"*/{PLAN}"))
    if inside:
        raise GanscaleError(
            f"{source}: not a folder of images, since it holds packed datasets; set data.path to "
            f"one of them: {', '.join(str(plan.parent) for plan in inside[:SHOWN])}",
            every_rank=True,
        )


def _processes() -> int:
    """Return how many processes pack: one for each core, but one alone in a user's own program.

    Worker processes import the main module again, which only this project's own surely allows.
    """
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    name = spec.name.partition(".")[0] if spec is not None else Path(file or "").stem
    if name != "ganscale":
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS and Windows


def _samples_per_shard(samples: int) -> int:
    wanted = -(-samples // NUMBER_OF_SHARDS)
    return min(max(wanted, SHARD_SAMPLES[0]), SHARD_SAMPLES[-1])


def _report(source: str, opened: Source, manifest: Manifest, packed: PackingSummary) -> None:
    """Log what was converted and what was left out."""
    for kind, count in packed.conversions.most_common():
        images = "image" if count == 1 else "images"
        log.info("%s: converted %s %s: %s", source, f"{count:,}", images, kind)
    for message in packed.skipped[:SHOWN]:
        log.warning("left out: %s", message)
    if left_out := len(opened) - manifest.samples:
        log.warning("%s: left out %s of %s images", source, f"{left_out:,}", f"{len(opened):,}")
