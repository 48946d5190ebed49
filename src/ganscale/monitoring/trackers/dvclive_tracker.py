"""DVCLive."""

from pathlib import Path

from ganscale.monitoring.trackers.accelerate_tracker import AccelerateTracker
from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun


@TRACKERS.register("dvclive")
class DvcliveTracker(AccelerateTracker):
    """DVCLive, in the run's folder `dvclive`."""

    packages = ("dvclive",)
    install = "pip install 'ganscale[dvclive]'"

    def __init__(self, run: TrackedRun):
        from accelerate.tracking import DVCLiveTracker

        folder = run.folder / "dvclive"
        tracker = DVCLiveTracker(
            dir=str(folder),
            resume=run.id is not None,
            dvcyaml=str(run.folder / "dvc.yaml"),  # beside the folder, as DVC merges it
            save_dvc_exp=False,  # which would add a commit to the user's repository
        )
        super().__init__(run, tracker)
        self.id: str = folder.name

    def _show(self, step: int, name: str, path: Path) -> None:
        # DVC shows the files of a folder that are named after steps with a slider.
        self._tracker.tracker.log_image(f"{name}/{step}{path.suffix}", path)
