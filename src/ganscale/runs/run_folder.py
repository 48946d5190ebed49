"""The folder of a run: which experiment it belongs to, and which process trains in it."""

import json
import logging
import os
import re
import socket
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from ganscale.config import Checkpoint, Evaluation, Experiment
from ganscale.config import load as experiment_file
from ganscale.data.fingerprint import fingerprint
from ganscale.errors import GanscaleError
from ganscale.files import read_inside, refuse_links, write_atomically
from ganscale.runs import checkpoint
from ganscale.runs.trust import note_own

SAMPLES_OF_STEP = re.compile(r"step-([0-9]{1,18})\.png")
STOP, SAVE = "stop", "save"  # files that ask the training process to stop or to save
LOOKED_AT_S = 0.3  # for how long others may hold the lock to see whether it is held
End = Literal["stopped", "waiting"]
"""How a training process ended before the last step: for good, or for Slurm to start it again."""

log = logging.getLogger("ganscale")


class RunFolder:
    """The folder that holds everything of one run: no other file knows the names in it.

    W&B and TensorBoard make folders of their own beside these.
    """

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
        self.exports = self.path / "exports"
        self.projections = self.path / "projections"
        self.report = self.path / "report.html"
        self._experiment = self.path / "experiment.yaml"
        self._first_weights = self.path / "first_weights.json"
        self._holder = self.path / ".holder"
        self._end = self.path / ".end"
        self._lock = FileLock(self.path / ".lock", timeout=0)

    @classmethod
    def of(cls, experiment: Experiment) -> "RunFolder":
        """Return the folder of an experiment's run."""
        return cls(experiment.folder)

    def experiment(self) -> Experiment:
        """Return the experiment with which the run was last started."""
        try:
            content = self.read(self._experiment)
        except (FileNotFoundError, NotADirectoryError):
            raise GanscaleError(
                f"{self.path}: not a run folder ({self._about_what_it_is()}); "
                "`ganscale runs` lists those in runs/"
            ) from None
        return experiment_file.load_recorded(content, self._experiment)

    def _about_what_it_is(self) -> str:
        if not self.path.exists():
            return "there is none of that name"
        if self.path.is_file():
            return "it is a file"
        return f"{self._experiment.name} is missing"

    def read(self, path: Path) -> bytes:
        """Return the content of a file of the run, which no link on the way may lead elsewhere."""
        return read_inside(self.path, *path.relative_to(self.path).parts)

    def first_weights(self) -> dict[str, Any] | None:
        """Return what the run started from and what it took of that; None if from its seed."""
        try:
            noted = json.loads(self.read(self._first_weights))
        except (OSError, ValueError):
            return None
        return noted if isinstance(noted, dict) else None

    def note_first_weights(self, content: str) -> None:
        """Write what the run starts from, as `first_weights` reads it."""
        write_atomically(self._first_weights, content.encode())

    def sample_grid(self, step: int) -> Path:
        """Return the file of the grid of samples of a step."""
        return self.samples / f"step-{step:08d}.png"

    def sample_grids(self) -> list[tuple[int, Path]]:
        """Return the step and the file of each grid of samples, in order."""
        found = [(SAMPLES_OF_STEP.fullmatch(p.name), p) for p in self.samples.glob("step-*.png")]
        return sorted((int(match[1]), path) for match, path in found if match)

    def best_checkpoint(self, wanted: Evaluation) -> Path | None:
        """Return the best checkpoint, as `wanted` says; None where none was evaluated."""
        return checkpoint.best(self.checkpoints, wanted, self.evaluations)

    def find_checkpoint(self, name: str, wanted: Evaluation) -> Path:
        """Return the checkpoint called `latest`, `best` (as `wanted` says) or by its own name."""
        return checkpoint.find(self.checkpoints, name, wanted, self.evaluations)

    def prune_checkpoints(self, kept: Checkpoint, wanted: Evaluation) -> None:
        """Remove all checkpoints but the best and those that `kept` names."""
        checkpoint.prune(
            self.checkpoints, kept.keep, wanted, self.evaluations, keep_every=kept.keep_every
        )

    def refuse_links(self) -> None:
        """Raise `GanscaleError` if a link in the folder could lead reading or writing elsewhere."""
        refuse_links(self.path)

    def reserve(self, experiment: Experiment) -> None:
        """Make the folder for this experiment; raise `FileExistsError` if there is one already."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir()
        write_atomically(self._experiment, experiment_file.to_yaml(experiment).encode())

    def give_back(self) -> None:
        """Remove a folder that was reserved and in which nothing has begun."""
        self._experiment.unlink()
        self.path.rmdir()

    def claim(self, experiment: Experiment) -> None:
        """Claim the folder for this experiment, and for this process as long as it lives.

        Raises `GanscaleError` if another experiment was trained in it, or if another process is
        training in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.refuse_links()
        self._take_lock()
        # Requests that came after the previous process ended, and how it did.
        for path in (self.path / STOP, self.path / SAVE, self._end):
            path.unlink(missing_ok=True)
        self.refuse_another(experiment)
        text = experiment_file.to_yaml(experiment)
        write_atomically(self._experiment, text.encode())
        note_own(self.path, experiment)

    def refuse_another(self, experiment: Experiment) -> None:
        """Raise `GanscaleError` if another experiment was trained in this folder."""
        if checkpoint.list_finished(self.checkpoints):
            self._compare(self.experiment(), experiment)

    def is_finished(self, experiment: Experiment) -> bool:
        """Return whether the files of this experiment's run show that it is finished.

        Returns False if that is uncertain, as with another dataset, a damaged checkpoint or a
        missing report; training then checks for itself. Raises `GanscaleError` if the folder holds
        another experiment.
        """
        known = checkpoint.list_finished(self.checkpoints)
        # Check the name first, so that not every rank reads an unfinished run at every start.
        if not known or checkpoint.step_of(known[-1]) < experiment.train.steps:
            return False
        if not self.report.is_file() or not checkpoint.is_intact(known[-1]):
            return False
        try:
            state = checkpoint.read_state(known[-1])
        except GanscaleError:
            return False
        if self.report.stat().st_mtime < (known[-1] / checkpoint.STATE).stat().st_mtime:
            return False
        self._compare(self.experiment(), experiment)
        try:
            return fingerprint(experiment.data) == state.data_fingerprint
        except GanscaleError:
            return False

    def say_finished(self, experiment: Experiment) -> None:
        """Print that the run is finished, and how to train longer or again."""
        print(
            f"{self.path} is already finished: {experiment.train.steps:,} steps. To train longer, "
            "raise train.steps; to train from the start, start a new run beside it (--new) or "
            "choose another name (name=…)"
        )

    def _compare(self, there: Experiment, now: Experiment) -> None:
        """Raise `GanscaleError` for a different experiment; log changes of its schedules."""
        decisive = experiment_file.differences(there, now)
        if decisive:
            lines = "\n".join(f"  {k}: {old!r} there, {new!r} now" for k, old, new in decisive)
            raise GanscaleError(
                f"{self.path} holds a run of another experiment:\n{lines}\n"
                "Start a new run beside it (--new), choose another name (name=…), go back to the "
                "values there, or remove the folder."
            )
        for key, old, new in experiment_file.schedule_changes(there, now):
            log.info("%s has changed: %s until now, %s from this step on", key, old, new)

    def _take_lock(self) -> None:
        """Take the lock, which the system releases when the process ends, however it ends."""
        try:
            self._lock.acquire(timeout=LOOKED_AT_S)
        except Timeout:
            raise GanscaleError(
                f"{self.path}: {self._who_holds_it()} is training this run now; wait for it, stop "
                f"it (ganscale stop {self.path}), or start a new run beside it (--new, or name=…)"
            ) from None
        who = f"process {os.getpid()} on {socket.gethostname()}\n"
        write_atomically(self._holder, who.encode())

    def _who_holds_it(self) -> str:
        try:
            return self.read(self._holder).decode(errors="replace").strip()
        except FileNotFoundError:  # it holds the lock, but has not yet written its name
            return "another process"

    def ask(self, name: str) -> None:
        """Create the file that asks the training process to stop or to save."""
        self.experiment()  # raises an error if this is not a run folder
        self.refuse_links()
        try:
            self._lock.acquire()
        except Timeout:
            (self.path / name).touch()
            return
        self._lock.release()
        raise GanscaleError(f"{self.path}: no process is training this run")

    def looks_like_one(self) -> bool:
        """Return whether a run was ever started in the folder, or is to be."""
        return any(path.exists() for path in (self._experiment, self.checkpoints, self.metrics))

    def note_end(self, how: End) -> None:
        """Note that training ends in good order before the last step."""
        write_atomically(self._end, how.encode())

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
        self._lock.release()
        return False

    def release(self) -> None:
        """Allow another process to train in the folder."""
        self._lock.release()
