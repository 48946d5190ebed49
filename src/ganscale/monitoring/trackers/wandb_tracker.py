"""Weights & Biases: numbers, pictures, tables and alerts of a run.

W&B's own client is used, and not Accelerate's tracker of it, which has no files, tables or metrics
of one's own definition.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.monitoring.environment import ganscale_commit, ganscale_version
from ganscale.monitoring.trackers.tracker import (
    TRACKERS,
    JudgedSamples,
    Output,
    TrackedRun,
    Tracker,
)
from ganscale.monitoring.trackers.wandb_artifacts import WandbArtifacts
from ganscale.monitoring.trackers.wandb_connection import (
    bounds,
    finish_in_time,
    start_or_log_offline,
    waits_for_sync,
)
from ganscale.monitoring.trackers.wandb_files import save_files
from ganscale.monitoring.trackers.wandb_settings import (
    arguments_of_init,
    requested_mode,
    seconds_to_wait,
)
from ganscale.monitoring.wandb_server import is_logged_in
from ganscale.monitoring.wandb_trial import trial_id

if TYPE_CHECKING:  # reading an experiment imports this file
    import wandb

STEP, IMAGES = "step", "images"

KILLED = 255
"""The exit code that W&B's client gives to a run that was interrupted."""

log = logging.getLogger("ganscale")


@TRACKERS.register("wandb")
class WandbTracker(Tracker):
    """Weights & Biases, online or offline; `monitoring.wandb` says which."""

    def __init__(self, run: TrackedRun):
        self._run = start_wandb(run.experiment, run.folder, run.id)
        # W&B's steps can only increase. Online it says which one is next; offline it does not know,
        # and `ganscale sync` keeps the last of what several starts say of a step.
        self._first_step: int = self._run.step
        self._last_step = -1
        self._batch_size = run.experiment.train.batch_size
        self._timeout = seconds_to_wait(run.experiment)
        self._folder = run.folder
        self.id: str = self._run.id
        _define_metrics(self._run, run.lower_is_better)
        save_files(self._run, run.experiment)
        self._artifacts = WandbArtifacts(self._run, run.experiment, run.folder)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Log numbers, unless W&B has them: its steps can only increase."""
        if step >= self._first_step:
            self._log(step, values)
            self._last_step = step

    def picture(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation, unless W&B has it."""
        if step < self._first_step:
            return
        import wandb

        if path.suffix == ".gif":
            self._log(step, {name: wandb.Video(str(path), format="gif")})
        else:
            from PIL import Image

            with Image.open(path) as image:
                self._log(step, {name: wandb.Image(image.copy())})

    def judged_samples(self, step: int, samples: JudgedSamples) -> None:
        """Log a table of samples, unless W&B has it."""
        if step < self._first_step:
            return
        import wandb

        of_classes = ["class"] if samples.classes else []
        columns: list[str | int] = ["step", "sample", *of_classes, "logit"]
        table = wandb.Table(columns=columns)
        for number, (image, logit) in enumerate(zip(samples.images, samples.logits, strict=True)):
            of_class = samples.classes[number : number + 1]
            table.add_data(step, wandb.Image(image), *of_class, logit)
        self._log(step, {"judged_samples": table})

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        images = step * self._batch_size
        self._run.log({**values, STEP: step, IMAGES: images}, step=step)

    def use_dataset(self, fingerprint: str, place: str) -> None:
        """Name the dataset as the run's input."""
        self._artifacts.use_dataset(fingerprint, place)

    def keep(self, output: Output) -> None:
        """Upload a checkpoint or a model, if `monitoring.wandb.artifacts` says so."""
        self._artifacts.keep(output)

    def alert(self, title: str, text: str) -> None:
        """Let W&B alert the user by mail or chat, as they have configured it."""
        self._run.alert(title=title, text=text)

    def finish(self) -> None:
        """Let W&B upload what is left."""
        self._finish(0)

    def stop(self) -> None:
        """Let W&B upload what is left, and show the run as killed: neither finished nor failed."""
        self._finish(KILLED)

    def abandon(self) -> None:
        """Let W&B upload what is left, and show the run as failed."""
        self._artifacts.abandon()
        self._finish(1)

    def _finish(self, exit_code: int) -> None:
        self._artifacts.close()
        finish_in_time(self._run, self._folder, self._last_step, self._timeout, exit_code)


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
    started = start_wandb(experiment, run, wandb_id)
    if curve:
        started.define_metric("evaluation_*", step_metric="evaluation_step")
    for step, point in sorted((curve or {}).items()):
        started.log(point, step=step)
    started.summary.update(summary)
    started.finish()


def start_wandb(experiment: Experiment, run: Path, wandb_id: str | None) -> "wandb.Run":
    """Start W&B, online if the user is logged in or asks for it, else offline; never prompt.

    Raises `GanscaleError` where W&B refuses the values that it is given.
    """
    import wandb

    mode = requested_mode(experiment)
    if mode == "auto":
        mode = "online" if is_logged_in() else "offline"
    arguments = arguments_of_init(experiment, run, wandb_id)
    arguments["config"] = {
        **experiment.model_dump(mode="json"),
        "ganscale_version": ganscale_version(),
        "ganscale_commit": ganscale_commit(),
    }
    tags = arguments.pop("tags")
    if wandb_id is None:
        arguments["tags"] = tags
    if mode == "online" and waits_for_sync(run, str(arguments["id"] or trial_id())):
        log.info("earlier parts of the run wait for `ganscale sync %s`: logging offline", run)
        mode = "offline"

    def start(mode: str) -> "wandb.Run":
        settings = wandb.Settings(silent=True, **bounds(seconds_to_wait(experiment)))
        return wandb.init(**{**arguments, "mode": mode}, settings=settings)

    try:
        started = start_or_log_offline(start, mode, run)
    except (wandb.errors.UsageError, ValueError) as error:
        raise _refusal(error) from None
    if wandb_id is not None and tags:
        # Given at the start, they would replace those that the user has added since in W&B.
        started.tags = tuple(dict.fromkeys([*(started.tags or ()), *tags]))
    return started


def _refusal(error: Exception) -> GanscaleError:
    return GanscaleError(
        f"W&B does not accept the values of monitoring.wandb or of the WANDB_* variables: "
        f"{' '.join(str(error).split())}; correct them, or set monitoring.wandb=disabled"
    )


def _define_metrics(run: "wandb.Run", lower_is_better: Mapping[str, bool]) -> None:
    """Let images seen be the x axis of all charts, and let scores be summarized by their best.

    A resumed run defines the same again, which changes nothing.
    """
    run.define_metric(IMAGES)
    run.define_metric(STEP, hidden=True)
    run.define_metric("*", step_metric=IMAGES)
    for name, lower in lower_is_better.items():
        best = "min" if lower else "max"
        run.define_metric(name, step_metric=IMAGES, summary=f"{best},last")
