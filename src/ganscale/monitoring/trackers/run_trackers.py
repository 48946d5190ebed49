"""All trackers of a run: JSON lines, and those that its experiment asks for."""

from pathlib import Path

from ganscale.config import Experiment
from ganscale.monitoring.trackers.json_lines import JsonLinesTracker
from ganscale.monitoring.trackers.tensorboard_tracker import TensorBoardTracker
from ganscale.monitoring.trackers.tracker import Tracker
from ganscale.monitoring.trackers.wandb_tracker import WandbTracker, uses_wandb


class Trackers:
    """All trackers of a run; they exist only on rank 0.

    Args:
        experiment: what trains; its section `monitoring` says which trackers there are
        run: the run's folder, in which trackers make folders of their own
        metrics: the file of JSON lines
        step: the step after which the run goes on, 0 for a new one
        wandb_id: the id by which W&B knows the run; None for a new one
    """

    def __init__(
        self, experiment: Experiment, run: Path, metrics: Path, step: int, wandb_id: str | None
    ):
        self._all: list[Tracker] = [JsonLinesTracker(metrics, step)]
        self.wandb_id: str | None = None
        if experiment.monitoring.tensorboard:
            self._all.append(TensorBoardTracker(run, step))
        if uses_wandb(experiment):
            wandb = WandbTracker(experiment, run, wandb_id)
            self.wandb_id = wandb.id
            self._all.append(wandb)

    def log(self, step: int, images: int, values: dict[str, float]) -> None:
        """Log numbers measured at `step`, after `images` images."""
        for tracker in self._all:
            tracker.log(step, {**values, "images": images})

    def picture(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation; the file itself is in the run folder."""
        for tracker in self._all:
            tracker.picture(step, name, path)

    def alert(self, title: str, text: str) -> None:
        """Tell the user of an unhealthy run."""
        for tracker in self._all:
            tracker.alert(title, text)

    def finish(self) -> None:
        """Close all trackers."""
        for tracker in self._all:
            tracker.finish()

    def abandon(self) -> None:
        """Close all trackers of a run that has failed."""
        for tracker in self._all:
            tracker.abandon()
