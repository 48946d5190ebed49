"""Weights & Biases, by Accelerate's tracker."""

import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ganscale.config import Experiment
from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun, Tracker
from ganscale.monitoring.trackers.wandb_connection import (
    bounds,
    finish_in_time,
    start_or_log_offline,
    waits_for_sync,
)
from ganscale.monitoring.wandb_server import is_logged_in
from ganscale.monitoring.wandb_trial import trial_id

if TYPE_CHECKING:  # it takes a second to import, and reading an experiment imports this file
    from accelerate.tracking import WandBTracker as AccelerateWandb

KILLED = 255
"""The exit code that W&B's client gives to a run that was interrupted."""

log = logging.getLogger("ganscale")


@TRACKERS.register("wandb")
class WandbTracker(Tracker):
    """Weights & Biases, online or offline; `monitoring.wandb` says which."""

    def __init__(self, run: TrackedRun):
        self._wandb = _start_wandb(run.experiment, run.folder, run.id)
        # W&B's steps can only increase. Online it says which one is next; offline it does not know,
        # and `ganscale sync` keeps the last of what several starts say of a step.
        self._first_step: int = self._wandb.run.step
        self._last_step = -1
        self._timeout = run.experiment.monitoring.wandb_timeout
        self._folder = run.folder
        self.id: str = self._wandb.run.id

    def log(self, step: int, values: dict[str, float]) -> None:
        """Log numbers, unless W&B has them: its steps can only increase."""
        if step >= self._first_step:
            self._wandb.log(values, step=step)
            self._last_step = step

    def picture(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation, unless W&B has it."""
        if step < self._first_step:
            return
        if path.suffix == ".gif":
            import wandb

            self._wandb.log({name: wandb.Video(str(path), format="gif")}, step=step)
        else:
            with Image.open(path) as image:
                self._wandb.log_images({name: [image.copy()]}, step=step)

    def alert(self, title: str, text: str) -> None:
        """Let W&B alert the user by mail or chat, as they have configured it."""
        self._wandb.run.alert(title=title, text=text)

    def finish(self) -> None:
        """Let W&B upload what is left."""
        self._finish(0)

    def stop(self) -> None:
        """Let W&B upload what is left, and show the run as killed: neither finished nor failed."""
        self._finish(KILLED)

    def abandon(self) -> None:
        """Let W&B upload what is left, and show the run as failed."""
        self._finish(1)

    def _finish(self, exit_code: int) -> None:
        finish_in_time(self._wandb.run, self._folder, self._last_step, self._timeout, exit_code)


def summarize_in_wandb(
    experiment: Experiment,
    run: Path,
    wandb_id: str,
    summary: dict[str, Any],
    curve: Mapping[int, dict[str, Any]] | None = None,
) -> None:
    """Add numbers about a finished run to its summary in W&B, online or offline.

    The points of `curve` go into its history, with `evaluation_step` as their axis. Its keys are
    W&B's own steps, which only go up: they come after those of training, and W&B drops a point
    whose step it has already.
    """
    from accelerate import PartialState

    PartialState()  # Accelerate's trackers ask it for the rank
    tracker = _start_wandb(experiment, run, wandb_id)
    if curve:
        tracker.run.define_metric("evaluation_*", step_metric="evaluation_step")
    for step, point in sorted((curve or {}).items()):
        tracker.run.log(point, step=step)
    tracker.run.summary.update(summary)
    tracker.finish()


def _start_wandb(experiment: Experiment, run: Path, wandb_id: str | None) -> "AccelerateWandb":
    """Start W&B, online if the user is logged in or asks for it, else offline; never prompt."""
    import wandb
    from accelerate.tracking import WandBTracker as AccelerateWandb

    monitoring = experiment.monitoring
    mode = os.environ.get("WANDB_MODE") or monitoring.wandb
    if mode == "auto":
        mode = "online" if is_logged_in() else "offline"
    identity = wandb_id or trial_id() or secrets.token_hex(4)
    if mode == "online" and waits_for_sync(run, identity):
        log.info("earlier parts of the run wait for `ganscale sync %s`: logging offline", run)
        mode = "offline"

    def start(mode: str) -> AccelerateWandb:
        tracker = AccelerateWandb(
            monitoring.wandb_project,
            name=experiment.name,
            id=identity,
            resume="allow",
            dir=str(run),
            mode=mode,
            config=experiment.model_dump(mode="json"),
            settings=wandb.Settings(silent=True, **bounds(monitoring.wandb_timeout)),
        )
        tracker.start()
        return tracker

    return start_or_log_offline(start, mode, run)
