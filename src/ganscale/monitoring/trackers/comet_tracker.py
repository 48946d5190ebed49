"""Comet."""

import os
import secrets
from pathlib import Path

from ganscale.monitoring.trackers.accelerate_tracker import PROJECT, AccelerateTracker
from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun


@TRACKERS.register("comet")
class CometTracker(AccelerateTracker):
    """Comet, or without an API key an archive in the run folder, for `comet upload`."""

    packages = ("comet_ml",)
    install = "pip install 'ganscale[comet]'"

    def __init__(self, run: TrackedRun):
        import comet_ml
        from accelerate.tracking import CometMLTracker

        self.id: str = run.id or secrets.token_hex(16)
        config = comet_ml.ExperimentConfig(
            name=run.experiment.name,
            offline_directory=str(run.folder / "comet"),
            log_code=False,
            auto_param_logging=False,
            auto_metric_logging=False,
            auto_output_logging=False,
            parse_args=False,
        )
        tracker = CometMLTracker(
            os.environ.get("COMET_PROJECT_NAME", PROJECT),
            experiment_key=self.id,
            online=comet_ml.get_config("comet.api_key") is not None,  # never prompt for it
            experiment_config=config,
        )
        super().__init__(run, tracker)

    def _show(self, step: int, name: str, path: Path) -> None:
        self._tracker.tracker.log_image(str(path), name=name, step=step)
