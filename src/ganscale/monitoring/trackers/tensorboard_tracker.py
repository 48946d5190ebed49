"""TensorBoard, by Accelerate's tracker."""

from pathlib import Path

from accelerate.tracking import TensorBoardTracker as AccelerateTensorBoard

from ganscale.monitoring.trackers.tracker import Tracker


class TensorBoardTracker(Tracker):
    """Writes event files into the run's folder `tensorboard`."""

    name = "tensorboard"

    def __init__(self, run: Path, resumed_step: int):
        # `purge_step` marks the events after the checkpoint as superseded.
        self._board = AccelerateTensorBoard(self.name, str(run), purge_step=resumed_step + 1)
        self._board.start()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write a scalar for each value."""
        self._board.log(values, step=step)

    def finish(self) -> None:
        """Close the event file."""
        self._board.finish()
