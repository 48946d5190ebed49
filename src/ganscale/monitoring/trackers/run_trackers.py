"""All trackers of a run: JSON lines, and those that its experiment asks for."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from ganscale.config import Experiment
from ganscale.monitoring.trackers.chosen import chosen_trackers
from ganscale.monitoring.trackers.json_lines import JsonLinesTracker
from ganscale.monitoring.trackers.shielded import Shielded
from ganscale.monitoring.trackers.tracker import (
    TRACKERS,
    JudgedSamples,
    Output,
    TrackedRun,
    Tracker,
)


class Trackers:
    """All trackers of a run; they exist only on rank 0.

    Args:
        experiment: what trains; its section `monitoring` says which trackers there are
        run: the run's folder, in which trackers make folders of their own
        metrics: the file of JSON lines
        step: the step after which the run goes on, 0 for a new one
        ids: the id by which each tracker knows the run; none of a new run
        lower_is_better: whether the lower value is better, for each score of which one is
    """

    def __init__(
        self,
        experiment: Experiment,
        run: Path,
        metrics: Path,
        step: int = 0,
        ids: Mapping[str, str] | None = None,
        lower_is_better: Mapping[str, bool] | None = None,
    ):
        known = ids or {}
        lines = JsonLinesTracker(metrics, step)
        self._all: list[Tracker] = [lines]
        self.ids = dict(known)
        for name in chosen_trackers(experiment):
            logged_step = lines.logged_step if name in known else 0
            tracked = TrackedRun(
                experiment, run, step, logged_step, known.get(name), lower_is_better or {}
            )
            tracker = Shielded(name, partial(TRACKERS.get(name), tracked))
            self._all.append(tracker)
            if tracker.id is not None:
                self.ids[name] = tracker.id

    def log(self, step: int, images: int, values: dict[str, float]) -> None:
        """Log numbers measured at `step`, after `images` images."""
        for tracker in self._all:
            tracker.log(step, {**values, "images": images})

    def picture(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation; the file itself is in the run folder."""
        for tracker in self._all:
            tracker.picture(step, name, path)

    def judged_samples(self, step: int, samples: JudgedSamples) -> None:
        """Log samples with the discriminator's logits."""
        for tracker in self._all:
            tracker.judged_samples(step, samples)

    def use_dataset(self, fingerprint: str, place: str) -> None:
        """Name the dataset that the run reads."""
        for tracker in self._all:
            tracker.use_dataset(fingerprint, place)

    def keep(self, output: Output) -> None:
        """Let trackers keep a version of these files."""
        for tracker in self._all:
            tracker.keep(output)

    def alert(self, title: str, text: str) -> None:
        """Tell the user of an unhealthy run."""
        for tracker in self._all:
            tracker.alert(title, text)

    def finish(self) -> None:
        """Close all trackers."""
        for tracker in self._all:
            tracker.finish()

    def stop(self) -> None:
        """Close all trackers of a run that was stopped before its last step."""
        for tracker in self._all:
            tracker.stop()

    def abandon(self) -> None:
        """Close all trackers of a run that has failed."""
        for tracker in self._all:
            tracker.abandon()
