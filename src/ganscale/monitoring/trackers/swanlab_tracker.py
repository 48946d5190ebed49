"""SwanLab."""

import os
import secrets
from pathlib import Path

from ganscale.monitoring.trackers.accelerate_tracker import (
    PROJECT,
    AccelerateTracker,
    is_animation,
)
from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun


@TRACKERS.register("swanlab")
class SwanlabTracker(AccelerateTracker):
    """SwanLab, or without an API key files in the run folder, for `swanlab sync`."""

    packages = ("swanlab",)
    install = "pip install 'ganscale[swanlab]'"

    def __init__(self, run: TrackedRun):
        import swanlab
        from accelerate.tracking import SwanLabTracker as AccelerateSwanLab

        self.id: str = run.id or secrets.token_hex(8)
        chosen = os.environ.get("SWANLAB_MODE")
        has_key = swanlab.Settings().api_key is not None
        mode = chosen or ("online" if has_key else "offline")
        tracker = AccelerateSwanLab(
            os.environ.get("SWANLAB_PROJ_NAME", PROJECT),
            experiment_name=run.experiment.name,
            log_dir=str(run.folder / "swanlab"),
            mode=mode,
            id=self.id,
            resume="allow",
            settings=swanlab.Settings(interactive=False),
        )
        super().__init__(run, tracker)

    def _show(self, step: int, name: str, path: Path) -> None:
        import swanlab

        media = swanlab.Video if is_animation(path) else swanlab.Image
        self._tracker.log({name: media(str(path))}, step=step)

    def abandon(self) -> None:
        """Close SwanLab's run as a failed one."""
        import swanlab

        swanlab.finish(state="crashed", error="the run ended with an error")
