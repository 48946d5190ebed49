"""The files of a run as anyone may look at them, without PyTorch: their names, and the run's state.

No other file knows the names in a run folder, but for `run_folder`, which also writes there.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from ganscale.config.load import recorded_values
from ganscale.files import read_inside

SAMPLES_OF_STEP = re.compile(r"step-([0-9]{1,18})\.png")
LOOKED_AT_S = 0.3  # for how long others may hold the lock to see whether it is held
End = Literal["stopped", "waiting"]
"""How a training process ended before the last step: for good, or for Slurm to start it again."""


class RunFiles:
    """The files in the folder of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"
        self.evaluations = self.path / "evaluations.jsonl"
        self.samples = self.path / "samples"
        gallery = self.path / "gallery"
        self.gallery_samples = gallery / "samples.png"
        self.gallery_walk = gallery / "interpolation.gif"
        self.gallery_neighbours = gallery / "neighbours.png"
        self.gallery_training = gallery / "training.gif"
        self.exports = self.path / "exports"
        self.projections = self.path / "projections"
        self.report = self.path / "report.html"
        self._experiment = self.path / "experiment.yaml"
        self._first_weights = self.path / "first_weights.json"
        self._trackers = self.path / "trackers.json"
        self._holder = self.path / ".holder"
        self._end = self.path / ".end"
        self._lock = FileLock(self.path / ".lock", timeout=0)

    def read(self, path: Path) -> bytes:
        """Return the content of a file of the run, which no link on the way may lead elsewhere."""
        return read_inside(self.path, *path.relative_to(self.path).parts)

    def recorded_values(self) -> dict[str, Any]:
        """Return the values of the experiment with which the run was last started, unchecked.

        Raises `FileNotFoundError` or `GanscaleError` if they cannot be read.
        """
        return recorded_values(self.read(self._experiment), self._experiment)

    def sample_grid(self, step: int) -> Path:
        """Return the file of the grid of samples of a step."""
        return self.samples / f"step-{step:08d}.png"

    def sample_grids(self) -> list[tuple[int, Path]]:
        """Return the step and the file of each grid of samples, in order."""
        found = [(SAMPLES_OF_STEP.fullmatch(p.name), p) for p in self.samples.glob("step-*.png")]
        return sorted((int(match[1]), path) for match, path in found if match)

    def looks_like_one(self) -> bool:
        """Return whether a run was ever started in the folder, or is to be."""
        return any(path.exists() for path in (self._experiment, self.checkpoints, self.metrics))

    def state(self, finished: bool) -> str:
        """Return what the run is doing: `running`, `finished`, `stopped`, `waiting` or `crashed`.

        `finished` says whether its last step is saved. A run waits before its first start, and for
        Slurm to start it again. It has crashed if its process ended without a word.
        """
        if self.is_being_trained():
            return "running"
        if finished:
            return "finished"
        if not self._holder.exists():
            return "waiting"
        try:
            end = self.read(self._end).decode(errors="replace")
        except FileNotFoundError:
            return "crashed"
        return end if end in get_args(End) else "crashed"

    def is_being_trained(self) -> bool:
        """Return whether a process, this or another, is training in the folder now."""
        if not os.path.lexists(self._lock.lock_file):
            return False
        try:
            self._lock.acquire()
        except Timeout:
            return True
        except PermissionError:  # another user's run, which we may only read
            return _is_locked(Path(self._lock.lock_file))
        self._lock.release()
        return False


def _is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file that need only be readable."""
    import fcntl

    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
