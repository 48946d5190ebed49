"""Aim."""

from pathlib import Path

from ganscale.monitoring.trackers.accelerate_tracker import PROJECT, AccelerateTracker
from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun


@TRACKERS.register("aim")
class AimTracker(AccelerateTracker):
    """Aim, in the repository `.aim` of the working directory or of a folder above it."""

    packages = ("aim",)
    install = "pip install 'ganscale[aim]'"

    def __init__(self, run: TrackedRun):
        from accelerate.tracking import AimTracker as AccelerateAim

        tracker = AccelerateAim(
            run.experiment.name,
            logging_dir=None,
            run_hash=run.id,
            experiment=PROJECT,
            capture_terminal_logs=False,
        )
        super().__init__(run, tracker)
        self.id: str = self._tracker.tracker.hash

    def _show(self, step: int, name: str, path: Path) -> None:
        import aim

        image = aim.Image(str(path), format=path.suffix[1:])
        self._tracker.tracker.track(image, name=name, step=step)
