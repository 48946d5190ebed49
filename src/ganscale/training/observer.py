"""What the loop tells whoever watches a run: a program's callbacks, for example."""

from collections.abc import Callable
from pathlib import Path

from torch import nn

from ganscale.evaluation.scores import Scores


class Observer:
    """Is told on rank 0 what has happened; this one does nothing with it.

    It only looks: all that it is given are numbers and files, and the network of `begin`, which it
    must copy before it changes anything in it. Each step is told in the order of the methods here.
    It must not raise an error, because the other ranks would wait for rank 0.
    """

    wants_stop = False
    """True if the run shall save and stop, as after `ganscale stop`."""

    def begin(self, step: int, sampled_network: Callable[[], nn.Module]) -> None:
        """Take note that the run starts after `step`, and how to get the averaged generator."""

    def step(self, step: int) -> None:
        """Take note that `step` is done."""

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Take note of what was measured since the last log."""

    def evaluation(self, step: int, scores: Scores) -> None:
        """Take note of scores."""

    def picture(self, step: int, path: Path) -> None:
        """Take note of a grid of samples."""

    def checkpoint(self, step: int, path: Path) -> None:
        """Take note of a checkpoint."""
