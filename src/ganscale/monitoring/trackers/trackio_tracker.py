"""Trackio."""

import os
import secrets
from pathlib import Path

from ganscale.monitoring.trackers.accelerate_tracker import (
    PROJECT,
    AccelerateTracker,
    is_animation,
)
from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun


@TRACKERS.register("trackio")
class TrackioTracker(AccelerateTracker):
    """Trackio, in a local SQLite file, on a server or in a Hugging Face Space."""

    packages = ("trackio",)
    install = "pip install 'ganscale[trackio]'"

    def __init__(self, run: TrackedRun):
        from accelerate.tracking import TrackioTracker as AccelerateTrackio

        # Trackio resumes by name, which must then be this run's alone.
        self.id: str = run.id or f"{run.experiment.name}-{secrets.token_hex(4)}"
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        super().__init__(run, AccelerateTrackio(project, name=self.id, resume="allow", embed=False))

    def _show(self, step: int, name: str, path: Path) -> None:
        import trackio

        media = trackio.Video(path) if is_animation(path) else trackio.Image(path)
        self._tracker.log({name: media}, step=step)
