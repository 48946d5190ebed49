"""A tracker whose failure ends neither the run nor the other trackers."""

import logging
from collections.abc import Callable
from pathlib import Path

from ganscale.errors import in_one_line
from ganscale.monitoring.trackers.tracker import JudgedSamples, Output, Tracker

log = logging.getLogger("ganscale")


class Shielded(Tracker):
    """Passes on to another tracker until that fails, and then warns once and leaves it out.

    A tracker that has failed is not tried again in this process: its next failure might take
    minutes, for which all ranks would wait. A resumed run tries it again.

    Args:
        name: the tracker's name in the experiment
        start: returns the tracker, started
    """

    def __init__(self, name: str, start: Callable[[], Tracker]):
        self._name = name
        self._inner: Tracker | None = None
        self._guard(lambda: self._begin(start()), "does not start")

    def _begin(self, tracker: Tracker) -> None:
        self._inner = tracker
        self.id = tracker.id

    def log(self, step: int, values: dict[str, float]) -> None:
        """Log numbers measured at `step`."""
        if (tracker := self._inner) is not None:
            self._guard(lambda: tracker.log(step, values), f"fails at step {step:,}")

    def picture(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation."""
        if (tracker := self._inner) is not None:
            self._guard(lambda: tracker.picture(step, name, path), f"fails at step {step:,}")

    def judged_samples(self, step: int, samples: JudgedSamples) -> None:
        """Log samples with the discriminator's logits."""
        if (tracker := self._inner) is not None:
            self._guard(lambda: tracker.judged_samples(step, samples), f"fails at step {step:,}")

    def use_dataset(self, fingerprint: str, place: str) -> None:
        """Name the dataset that the run reads."""
        if (tracker := self._inner) is not None:
            self._guard(lambda: tracker.use_dataset(fingerprint, place), "fails")

    def keep(self, output: Output) -> None:
        """Keep a version of these files."""
        if (tracker := self._inner) is not None:
            self._guard(lambda: tracker.keep(output), f"fails at step {output.step:,}")

    def alert(self, title: str, text: str) -> None:
        """Tell the user of an unhealthy run."""
        if (tracker := self._inner) is not None:
            self._guard(lambda: tracker.alert(title, text), "fails")

    def finish(self) -> None:
        """Close the tracker."""
        if (tracker := self._inner) is not None:
            self._guard(tracker.finish, "cannot be closed")

    def stop(self) -> None:
        """Close the tracker of a run that was stopped before its last step."""
        if (tracker := self._inner) is not None:
            self._guard(tracker.stop, "cannot be closed")

    def abandon(self) -> None:
        """Close the tracker of a run that has failed."""
        if (tracker := self._inner) is not None:
            self._guard(tracker.abandon, "cannot be closed")

    def _guard(self, call: Callable[[], None], what: str) -> None:
        try:
            call()
        except Exception as error:  # trackers have many kinds
            self._inner = None
            reason = in_one_line(error)
            log.warning(
                "the tracker %s %s (%s); the run goes on without it", self._name, what, reason
            )
