"""The folder of a run: which experiment it belongs to, and which process trains in it."""

import json
import logging
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import Timeout

from ganscale.config import Checkpoint, Evaluation, Experiment
from ganscale.config import load as experiment_file
from ganscale.data.fingerprint import fingerprint
from ganscale.errors import GanscaleError
from ganscale.files import refuse_links, write_atomically
from ganscale.runs import checkpoint
from ganscale.runs.checkpoint_names import list_finished, step_of
from ganscale.runs.run_files import LOOKED_AT_S, End, RunFiles
from ganscale.runs.trust import note_own

STOP, SAVE = "stop", "save"  # files that ask the training process to stop or to save
TRACKER_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

log = logging.getLogger("ganscale")


class RunFolder(RunFiles):
    """The folder that holds everything of one run.

    W&B and TensorBoard make folders of their own beside these.
    """

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

    def files_with_checkpoint(self, path: Path) -> dict[str, Path]:
        """Return the files of a run folder with this checkpoint alone, by their places in it."""
        parts = [self._experiment, *path.iterdir()]
        return {str(part.relative_to(self.path)): part for part in parts}

    def tracker_ids(self) -> dict[str, str]:
        """Return the id by which each tracker knows the run, as far as they are noted."""
        try:
            noted = json.loads(self.read(self._trackers))
        except (OSError, ValueError):
            return {}
        ids = noted.items() if isinstance(noted, dict) else ()
        return {name: id for name, id in ids if isinstance(id, str) and TRACKER_ID.fullmatch(id)}

    def note_tracker_ids(self, ids: Mapping[str, str]) -> None:
        """Write the id by which each tracker knows the run, as `tracker_ids` reads them."""
        if ids:
            write_atomically(self._trackers, json.dumps(dict(ids), indent=2).encode())

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
        if list_finished(self.checkpoints):
            self._compare(self.experiment(), experiment)

    def is_finished(self, experiment: Experiment) -> bool:
        """Return whether the files of this experiment's run show that it is finished.

        Returns False if that is uncertain, as with another dataset, a damaged checkpoint or a
        missing report; training then checks for itself. Raises `GanscaleError` if the folder holds
        another experiment.
        """
        known = list_finished(self.checkpoints)
        # Check the name first, so that not every rank reads an unfinished run at every start.
        if not known or step_of(known[-1]) < experiment.train.steps:
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

    def note_end(self, how: End) -> None:
        """Note that training ends in good order before the last step."""
        write_atomically(self._end, how.encode())

    def release(self) -> None:
        """Allow another process to train in the folder."""
        self._lock.release()
