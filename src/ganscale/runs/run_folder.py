"""The folder of a run, and whether it is this experiment's."""

import logging
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from ganscale.config import Experiment
from ganscale.config import load as experiment_file
from ganscale.data.shards.storage import fingerprint
from ganscale.errors import GanscaleError
from ganscale.files import read_inside, refuse_links, write_atomically
from ganscale.runs import checkpoint
from ganscale.runs.trust import note_own

EXPERIMENT = "experiment.yaml"
HOLDER = ".holder"
STOP, SAVE = "stop", "save"  # files that ask the process that trains here

log = logging.getLogger("ganscale")


class RunFolder:
    """Where everything of one run lies."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.report = self.path / "report.html"
        self._lock = FileLock(self.path / ".lock", timeout=0)

    @classmethod
    def of(cls, experiment: Experiment) -> "RunFolder":
        """The folder that an experiment names."""
        return cls(experiment.folder)

    def experiment(self) -> Experiment:
        """The experiment that the run was last started with."""
        try:
            content = read_inside(self.path, EXPERIMENT)
        except (FileNotFoundError, NotADirectoryError):
            raise GanscaleError(
                f"{self.path}: not a run folder ({EXPERIMENT} is missing)"
            ) from None
        return experiment_file.load_recorded(content, self.path / EXPERIMENT)

    def refuse_links(self) -> None:
        """Raise `GanscaleError` where what is read or written here could lie elsewhere."""
        refuse_links(self.path)

    def claim(self, experiment: Experiment) -> None:
        """Make the folder this experiment's and this process's, as long as that lives.

        Refuses where another experiment has trained in it, or another process is training.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.refuse_links()
        self._take_lock()
        for name in (STOP, SAVE):  # asked of a run that had ended
            (self.path / name).unlink(missing_ok=True)
        self.refuse_another(experiment)
        text = experiment_file.to_yaml(experiment)
        write_atomically(self.path / EXPERIMENT, text.encode())
        try:
            note_own(self.path, experiment)
        except OSError as error:
            log.warning(
                "that this run is yours could not be noted (%s): sampling it will ask for "
                "--trust-code",
                error,
            )

    def refuse_another(self, experiment: Experiment) -> None:
        """Raise `GanscaleError` if another experiment has trained in this folder."""
        if checkpoint.listed(self.checkpoints):
            self._compare(self.experiment(), experiment)

    def is_finished(self, experiment: Experiment) -> bool:
        """Whether this experiment's run has nothing left to do, as its files say.

        Raises `GanscaleError` where the folder holds another experiment. False also where it is
        not certain, as with another dataset, a damaged checkpoint or a report that was not yet
        written: training then looks for itself.
        """
        known = checkpoint.listed(self.checkpoints)
        # By its name first: an unfinished run need not be read by every rank at every start.
        if not known or checkpoint.step_of(known[-1]) < experiment.train.steps:
            return False
        if not self.report.is_file() or not checkpoint.is_sound(known[-1]):
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
        """Tell the user that there is nothing left to do, and what to do for more."""
        print(
            f"{self.path} is already done: {experiment.train.steps:,} steps. To train longer, "
            "raise train.steps; to train anew, give it a name of its own (name=…)"
        )

    def _compare(self, there: Experiment, now: Experiment) -> None:
        """Refuse another experiment than the run's; say in the log where its schedules change."""
        changed = experiment_file.differences(there, now)
        decisive = [change for change in changed if change[0] not in Experiment.SCHEDULES]
        if decisive:
            lines = "\n".join(f"  {k}: {old!r} there, {new!r} now" for k, old, new in decisive)
            raise GanscaleError(
                f"{self.path} holds a run of another experiment:\n{lines}\n"
                "Give this one a name of its own (name=…), go back to the values there, or "
                "remove the folder."
            )
        for key, old, new in changed:
            log.info("%s has changed: %s until now, %s from this step on", key, old, new)

    def _take_lock(self) -> None:
        """The system gives the lock back when the process ends, however it ends."""
        try:
            self._lock.acquire()
        except Timeout:
            raise GanscaleError(
                f"{self.path}: {self._holder()} is training this run now; wait for it, stop it "
                f"(ganscale stop {self.path}) or give this run another name (name=…)"
            ) from None
        who = f"process {os.getpid()} on {socket.gethostname()}\n"
        write_atomically(self.path / HOLDER, who.encode())

    def _holder(self) -> str:
        try:
            return read_inside(self.path, HOLDER).decode(errors="replace").strip()
        except FileNotFoundError:  # it has the lock, and has not yet said who it is
            return "another process"

    def ask(self, name: str) -> None:
        """Leave the file that asks the process that trains here to stop or to save."""
        self.experiment()  # it is a run folder at all
        self.refuse_links()
        try:
            self._lock.acquire()
        except Timeout:
            (self.path / name).touch()
            return
        self._lock.release()
        raise GanscaleError(f"{self.path}: no process is training this run")

    def is_being_trained(self) -> bool:
        """Whether a process, this or another, trains in it now."""
        try:
            self._lock.acquire()
        except Timeout:
            return True
        self._lock.release()
        return False

    def release(self) -> None:
        """Let another process train here."""
        self._lock.release()
