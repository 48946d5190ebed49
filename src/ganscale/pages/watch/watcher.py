"""What the page asks for, answered from the files of the runs, of which nothing is changed."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganscale.errors import GanscaleError
from ganscale.pages.watch.comparison import differing
from ganscale.pages.watch.log_reader import X_AXES, LogReader
from ganscale.pages.watch.run_summary import Summary, broken, summarize
from ganscale.runs.run_files import RunFiles

READING_S = 0.3  # for one answer; the page asks again for the rest
LOOKED_AT_AGAIN_S = 1.0
MAX_DEPTH = 4  # of runs below a folder that is watched
MAX_RUNS = 1000


@dataclass
class _Run:
    """A run that was found, and what was last read of it."""

    number: int
    name: str
    files: RunFiles
    summary: Summary = field(default_factory=dict)
    changed_at: int = 0
    seen: tuple[Any, ...] = ()
    log: LogReader | None = None


class Watcher:
    """Finds the runs below some folders, and reads of them what is new.

    It counts its answers. Whoever asks again names the number of the last answer, and gets what
    has changed since. Several pages, and threads of a server, may ask at once.
    """

    def __init__(self, folders: Sequence[Path]):
        self._folders = folders
        self._runs: dict[Path, _Run] = {}
        self._found = 0
        self._now = 0
        self._looked_at = -LOOKED_AT_AGAIN_S
        self._unread: list[_Run] = []
        self._lock = threading.Lock()

    def runs(self, since: int) -> dict[str, Any]:
        """Return the numbers of all runs, and the summaries of those that have changed.

        `more` says that some were not looked at yet.
        """
        with self._lock:
            self._now += 1
            self._find()
            until = time.monotonic() + READING_S
            while self._unread:
                self._summarize(self._unread.pop())
                if time.monotonic() > until:
                    break
            known = [run for run in self._runs.values() if run.changed_at]
            return {
                "now": self._now,
                "more": bool(self._unread),
                "runs": [run.number for run in known],
                "changed": [
                    {"number": run.number, "name": run.name, **run.summary}
                    for run in known
                    if run.changed_at > since
                ],
            }

    def curves(
        self, since: int, x: str, numbers: Sequence[int], metrics: Sequence[str]
    ) -> dict[str, Any]:
        """Return what has changed of the curves of some metrics of some runs.

        `more` says that their logs have not been read to the end. Raises `GanscaleError` if there
        is no such x axis.
        """
        if x not in X_AXES:
            raise GanscaleError(f"x must be one of {', '.join(X_AXES)}")
        with self._lock:
            self._now += 1
            until = time.monotonic() + READING_S
            curves = []
            more = False
            for run in self._numbered(numbers):
                log = run.log
                if log is None or not log.wanted.issuperset(metrics):
                    wanted = frozenset(metrics) | (log.wanted if log else set())
                    log = run.log = LogReader(run.files.metrics, wanted)
                more |= not log.read(self._now, until)
                for metric in metrics:
                    columns = log.curves[metric].since(since, X_AXES[x])
                    if columns is not None:
                        curves.append({"run": run.number, "metric": metric, **columns})
            return {"now": self._now, "more": more, "curves": curves}

    def differences(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return the keys by which the configurations of some runs differ; the unreadable lack."""
        with self._lock:
            configs = {}
            for run in self._numbered(numbers):
                try:
                    configs[run.number] = run.files.recorded_values()
                except (GanscaleError, OSError):
                    continue
        rows = [{"key": key, "values": values} for key, values in differing([*configs.values()])]
        return {"runs": [*configs], "rows": rows}

    def grid(self, number: int, step: int) -> bytes:
        """Return the PNG of a run's grid of samples.

        Raises `FileNotFoundError` if there is none.
        """
        with self._lock:
            found = self._numbered([number])
        if not found:
            raise FileNotFoundError(f"run {number}")
        files = found[0].files
        return files.read(files.sample_grid(step))

    def _numbered(self, numbers: Sequence[int]) -> list[_Run]:
        of_number = {run.number: run for run in self._runs.values()}
        return [of_number[number] for number in dict.fromkeys(numbers) if number in of_number]

    def _find(self) -> None:
        """Look which runs there are now and which files have changed, at most once a second."""
        if self._unread or time.monotonic() < self._looked_at + LOOKED_AT_AGAIN_S:
            return
        self._looked_at = time.monotonic()
        paths = [path for folder in self._folders for path in _runs_below(folder, MAX_DEPTH)]
        for gone in self._runs.keys() - set(paths):
            del self._runs[gone]
        for path in paths[:MAX_RUNS]:
            if path not in self._runs:
                self._found += 1
                self._runs[path] = _Run(self._found, self._name(path), RunFiles(path))
        self._unread = [*reversed(self._runs.values())]

    def _name(self, path: Path) -> str:
        """Return the run's path below the folder that is watched, or its own name."""
        parents = [folder for folder in self._folders if folder in path.parents]
        name = str(path.relative_to(parents[0])) if parents else path.name
        return name if len(self._folders) == 1 or not parents else f"{parents[0].name}/{name}"

    def _summarize(self, run: _Run) -> None:
        """Read a run's files again, if one has changed or a process may have begun or ended."""
        seen = _state_of_files(run.files)
        if seen == run.seen and run.summary["state"] != "running":
            return
        run.seen = seen
        try:
            summary = summarize(run.files)
        except (GanscaleError, OSError) as error:  # deleted while it is read, or another's
            summary = broken(str(error).splitlines()[0])
        if summary != run.summary:
            run.summary, run.changed_at = summary, self._now


def _runs_below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the run folders below a folder, or the folder itself if it is one; no link leads on."""
    if RunFiles(folder).looks_like_one():
        yield folder
    elif depth:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:  # not there yet, or not ours to read
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _runs_below(Path(entry.path), depth - 1)


def _state_of_files(run: RunFiles) -> tuple[Any, ...]:
    """Return what changes whenever the summary of a run may change."""
    states: list[Any] = []
    for path in (run.path, run.metrics, run.evaluations, run.samples, run.checkpoints):
        try:
            state = path.stat()
            states.append((state.st_ino, state.st_size, state.st_mtime_ns))
        except OSError:
            states.append(None)
    return tuple(states)
