"""Trackers of numbers and pictures: always JSON Lines, and W&B and TensorBoard if configured.

All are Accelerate trackers. A resumed run repeats the steps after its checkpoint; each tracker
still shows them only once.
"""

import json
import logging
import os
import secrets
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import GeneralTracker, TensorBoardTracker, WandBTracker
from PIL import Image

from ganscale.config import Experiment
from ganscale.files import write_atomically
from ganscale.monitoring.metrics_log import read_metrics
from ganscale.monitoring.wandb_trial import trial_id

log = logging.getLogger("ganscale")


class JsonLinesTracker(GeneralTracker):
    """Writes one JSON object per line."""

    name = "jsonl"
    requires_logging_directory = False

    def __init__(self, path: Path, resumed_step: int):
        super().__init__()
        logged = read_metrics(path)
        self.logged_step = max((line["step"] for line in logged), default=0)
        # The steps after the checkpoint will be repeated and logged again.
        kept = [line for line in logged if line["step"] <= resumed_step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_atomically(path, text.encode())
        self._file = path.open("a", buffering=1, encoding="utf-8")

    @property
    def tracker(self) -> Any:
        """The open file."""
        return self._file

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Do nothing: the experiment has its own file in the run folder."""

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Append one line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")

    def finish(self) -> None:
        """Close the file."""
        self._file.close()


class Trackers:
    """All trackers of a run; they exist only on rank 0.

    `metrics` is the file of JSON lines; in `run`, W&B and TensorBoard make folders of their own.
    """

    def __init__(
        self, experiment: Experiment, run: Path, metrics: Path, step: int, wandb_id: str | None
    ):
        lines = JsonLinesTracker(metrics, step)
        self._logged_step = lines.logged_step
        self._all: list[GeneralTracker] = [lines]
        self._wandb: WandBTracker | None = None
        self.wandb_id: str | None = None
        monitoring = experiment.monitoring
        if monitoring.tensorboard:
            # This marks the events after the checkpoint as superseded.
            board = TensorBoardTracker("tensorboard", str(run), purge_step=step + 1)
            board.start()
            self._all.append(board)
        if uses_wandb(experiment):
            self._wandb = _start_wandb(experiment, run, wandb_id)
            self.wandb_id = self._wandb.run.id
            self._all.append(self._wandb)

    def log(self, step: int, images: int, values: dict[str, float]) -> None:
        """Log numbers measured at `step`."""
        for tracker in self._all:
            # W&B's steps can only increase: what it logged before the resume stays as it is.
            if tracker.name != "wandb" or step > self._logged_step:
                tracker.log({**values, "images": images}, step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation to W&B; the file itself is in the run folder."""
        if self._wandb is None or step <= self._logged_step:
            return
        if path.suffix == ".gif":
            import wandb

            self._wandb.log({name: wandb.Video(str(path), format="gif")}, step=step)
        else:
            with Image.open(path) as image:
                self._wandb.log_images({name: [image.copy()]}, step=step)

    def alert(self, title: str, text: str) -> None:
        """Let W&B alert the user by mail or chat, as they have configured it."""
        if self._wandb is not None:
            self._wandb.run.alert(title=title, text=text)

    def finish(self) -> None:
        """Close all trackers; W&B uploads what is left."""
        for tracker in self._all:
            tracker.finish()

    def abandon(self) -> None:
        """Close all trackers of a run that has failed; W&B shows it as such."""
        if self._wandb is not None:
            self._wandb.run.finish(exit_code=1)
        for tracker in self._all:
            if tracker is not self._wandb:
                tracker.finish()


def uses_wandb(experiment: Experiment) -> bool:
    """Return whether this experiment's runs are logged to W&B, online or offline."""
    disabled = "disabled"
    return experiment.monitoring.wandb != disabled and os.environ.get("WANDB_MODE") != disabled


def summarize_in_wandb(
    experiment: Experiment, run: Path, wandb_id: str, summary: dict[str, Any]
) -> None:
    """Add numbers about a finished run to its summary in W&B, online or offline."""
    PartialState()  # Accelerate's trackers ask it for the rank
    tracker = _start_wandb(experiment, run, wandb_id)
    tracker.run.summary.update(summary)
    tracker.finish()


def _start_wandb(experiment: Experiment, run: Path, wandb_id: str | None) -> WandBTracker:
    """Start W&B, online if the user is logged in or asks for it, else offline; never prompt."""
    import wandb

    monitoring = experiment.monitoring
    mode = os.environ.get("WANDB_MODE") or monitoring.wandb
    if mode == "auto":
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    identity = wandb_id or trial_id() or secrets.token_hex(4)

    def start(mode: str) -> WandBTracker:
        tracker = WandBTracker(
            monitoring.wandb_project,
            name=experiment.name,
            id=identity,
            resume="allow",
            dir=str(run),
            mode=mode,
            config=experiment.model_dump(mode="json"),
            settings=wandb.Settings(init_timeout=monitoring.wandb_timeout, silent=True),
        )
        tracker.start()
        return tracker

    try:
        return start(mode)
    except (wandb.errors.Error, OSError) as error:
        log.warning("W&B cannot be reached (%s); logging offline", " ".join(str(error).split()))
        return start("offline")
