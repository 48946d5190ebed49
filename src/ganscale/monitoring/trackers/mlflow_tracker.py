"""MLflow."""

import os
from pathlib import Path

from ganscale.monitoring.trackers.accelerate_tracker import (
    PROJECT,
    AccelerateTracker,
    is_animation,
)
from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""How long MLflow tries a server, unless the user says so: its own 7 retries of 120 s would keep
the run waiting for many minutes."""


@TRACKERS.register("mlflow")
class MlflowTracker(AccelerateTracker):
    """MLflow, on its server or in its local store; `MLFLOW_TRACKING_URI` says where."""

    packages = ("mlflow",)
    install = "pip install 'ganscale[mlflow]'"

    def __init__(self, run: TrackedRun):
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        from accelerate.tracking import MLflowTracker as AccelerateMlflow

        name = run.experiment.name
        super().__init__(run, AccelerateMlflow(PROJECT, run_id=run.id, run_name=name))
        self.id: str = self._tracker.tracker.info.run_id

    def _show(self, step: int, name: str, path: Path) -> None:
        import mlflow

        if is_animation(path):
            mlflow.log_artifact(str(path), name)
        else:
            from PIL import Image

            with Image.open(path) as image:
                mlflow.log_image(image, key=name, step=step, synchronous=True)

    def abandon(self) -> None:
        """End MLflow's run as a failed one."""
        import mlflow

        mlflow.end_run(status="FAILED")
