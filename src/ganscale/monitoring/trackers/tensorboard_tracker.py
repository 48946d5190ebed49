"""TensorBoard."""

from pathlib import Path

from ganscale.monitoring.trackers.tracker import TRACKERS, TrackedRun, Tracker

COLOR_SPACES = {"L": 1, "RGB": 3, "RGBA": 4}
"""TensorBoard's number for a picture's channels."""
GROUPS = {
    "loss_scale": "machinery",
    "loss": "losses",
    "penalty": "penalties",
    "d_real": "discriminator",
    "d_fake": "discriminator",
    "d_accuracy": "discriminator",
    "balance_accuracy": "discriminator",
    "balance": "machinery",
    "learning_rate": "machinery",
    "beta1": "machinery",
    "beta2": "machinery",
    "gradient_norm": "machinery",
    "ema": "machinery",
    "augment": "machinery",
    "images": "system",
    "seconds": "system",
    "memory": "system",
    "mfu": "system",
}
"""The group of charts of the numbers whose names begin so; the first that fits decides."""
SCORES, PICTURES = "scores", "pictures"


def tag_of(name: str) -> str:
    """Return what TensorBoard shows a number as: it groups charts by what precedes a slash.

    A score may have any name, and is what no other group claims.
    """
    groups = (g for start, g in GROUPS.items() if name == start or name.startswith(f"{start}_"))
    return f"{next(groups, SCORES)}/{name}"


@TRACKERS.register("tensorboard")
class TensorBoardTracker(Tracker):
    """TensorBoard, in the run's folder `tensorboard`."""

    def __init__(self, run: TrackedRun):
        from accelerate.tracking import TensorBoardTracker as AccelerateTensorBoard

        # `purge_step` marks the events after the checkpoint as superseded.
        purge_step = run.resumed_step + 1
        self._board = AccelerateTensorBoard("tensorboard", run.folder, purge_step=purge_step)
        self._board.start()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write a scalar for each value."""
        self._board.log({tag_of(name): value for name, value in values.items()}, step=step)

    def picture(self, step: int, name: str, path: Path) -> None:
        """Write the file's own bytes, which a browser shows, and plays if they are a GIF."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as opened:
            width, height = opened.size
            channels = COLOR_SPACES.get(opened.mode, 3)
        image = Summary.Image(
            width=width,
            height=height,
            colorspace=channels,
            encoded_image_string=path.read_bytes(),
        )
        summary = Summary(value=[Summary.Value(tag=f"{PICTURES}/{name}", image=image)])
        writer = self._board.tracker
        writer.file_writer.add_summary(summary, step)
        writer.flush()

    def finish(self) -> None:
        """Close the event file."""
        self._board.finish()
