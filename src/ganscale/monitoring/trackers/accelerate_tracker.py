"""A tracker that passes on to one of Accelerate's."""

from pathlib import Path
from typing import Any

from ganscale.config.mistakes import flatten
from ganscale.monitoring.trackers.tracker import TrackedRun, Tracker

PROJECT = "ganscale"
"""The project of a run where the tracker's own environment variable names no other."""


class AccelerateTracker(Tracker):
    """Logs each step once: those that an earlier part of the run has logged are left out.

    Args:
        run: what is tracked
        tracker: Accelerate's tracker of it, not yet started
    """

    def __init__(self, run: TrackedRun, tracker: Any):
        self._logged_step = run.logged_step
        self._tracker = tracker
        tracker.start()
        if run.id is None:
            values = flatten(run.experiment.model_dump(mode="json"))
            tracker.store_init_configuration(
                {key: value if _is_plain(value) else str(value) for key, value in values}
            )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Log numbers, unless an earlier part of the run has logged the step."""
        if step > self._logged_step:
            self._tracker.log(values, step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation, unless an earlier part of the run has logged the step."""
        if step > self._logged_step:
            self._show(step, name, path)

    def _show(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation; without an override, do nothing."""

    def finish(self) -> None:
        """Close Accelerate's tracker."""
        self._tracker.finish()


def is_animation(path: Path) -> bool:
    """Return whether the file of a picture is an animation."""
    return path.suffix == ".gif"


def _is_plain(value: Any) -> bool:
    """Return whether each tracker takes a value of an experiment as it is."""
    return isinstance(value, bool | int | float | str)
