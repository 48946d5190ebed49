"""ClearML."""

import os
from pathlib import Path

from ganscale.monitoring.trackers.accelerate_tracker import (
    PROJECT,
    AccelerateTracker,
    is_animation,
)
from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun


@TRACKERS.register("clearml")
class ClearmlTracker(AccelerateTracker):
    """ClearML, on the server that `clearml-init` has set up."""

    packages = ("clearml",)
    install = "pip install 'ganscale[clearml]'"

    def __init__(self, run: TrackedRun):
        from accelerate.tracking import ClearMLTracker

        tracker = ClearMLTracker(
            PROJECT,
            project_name=os.environ.get("CLEARML_PROJECT", PROJECT),
            task_name=os.environ.get("CLEARML_TASK", run.experiment.name),
            reuse_last_task_id=run.id or False,
            # Steps are what the run says, not what ClearML has counted until now.
            continue_last_task=0 if run.id else False,
            # ClearML would otherwise upload each checkpoint and each event of TensorBoard.
            auto_connect_frameworks=False,
            auto_connect_arg_parser=False,
            auto_connect_streams=False,
        )
        super().__init__(run, tracker)
        self.id: str = self._tracker.tracker.id

    def _show(self, step: int, name: str, path: Path) -> None:
        logger = self._tracker.tracker.get_logger()
        report = logger.report_media if is_animation(path) else logger.report_image
        report(title=name, series=name, iteration=step, local_path=str(path))

    def abandon(self) -> None:
        """Close ClearML's task as a failed one."""
        self._tracker.tracker.mark_failed(status_reason="the run ended with an error")
        self.finish()
