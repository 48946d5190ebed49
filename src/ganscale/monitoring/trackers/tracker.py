"""What every tracker of a run does."""

from pathlib import Path


class Tracker:
    """Takes what a run measures and draws; only rank 0 has trackers.

    A resumed run repeats the steps after its checkpoint. A tracker is told of them again and shows
    each step once.
    """

    name: str

    def log(self, step: int, values: dict[str, float]) -> None:
        """Log numbers measured at `step`."""
        raise NotImplementedError

    def picture(self, step: int, name: str, path: Path) -> None:
        """Log a picture or an animation, if the tracker shows any; the run folder keeps its file.

        Args:
            step: when it was drawn
            name: what the tracker shows it as
            path: a PNG or a GIF
        """

    def alert(self, title: str, text: str) -> None:
        """Tell the user of an unhealthy run, if the tracker has a way to."""

    def finish(self) -> None:
        """Close the tracker of a run that has completed or will be resumed."""

    def abandon(self) -> None:
        """Close the tracker of a run that has failed."""
        self.finish()
