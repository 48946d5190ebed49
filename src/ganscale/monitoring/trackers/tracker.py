"""What every tracker of a run does, and the registry of those that an experiment may name.

To add a tracker, write a file in this folder, or name a class in a file of your own in the
experiment: `monitoring.trackers: [wandb, my_tracker.py:MyTracker]`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from ganscale.config import Experiment
from ganscale.registry import Registry, is_subclass_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is given to begin with."""

    experiment: Experiment
    """What trains."""
    folder: Path
    """The run's folder, in which a tracker may make one of its own."""
    resumed_step: int = 0
    """The step after which the run goes on; 0 for a new run."""
    logged_step: int = 0
    """The last step that an earlier part of the run has logged to this tracker; 0 if none has."""
    id: str | None = None
    """The id by which the tracker knows the run; None if it does not know it yet."""
    lower_is_better: Mapping[str, bool] = field(default_factory=dict)
    """Whether the lower value is better, for each score of which one is."""


class JudgedSamples(NamedTuple):
    """Some samples, and what the discriminator says of each."""

    images: "NDArray[np.uint8]"
    """(N, H, W, 1 or 3)."""
    classes: tuple[str, ...]
    """The name of each sample's class; empty where the generator knows none."""
    logits: tuple[float, ...]
    """A positive one means "real"."""


@dataclass(frozen=True)
class Output:
    """Files of a run that a tracker may keep a version of."""

    kind: Literal["checkpoint", "model"]
    """A checkpoint, in the form of a run folder, or the final generator, in its pretrained form."""
    step: int
    files: Mapping[str, Path]
    """Each file by its place in the version, such as `checkpoints/step-00002000/state.json`."""
    aliases: tuple[str, ...] = ()
    """`best` for the run's best so far."""
    metadata: dict[str, Any] = field(default_factory=dict)


class Tracker:
    """Takes what a run measures and draws; only rank 0 has trackers.

    A resumed run repeats the steps after its checkpoint. A tracker is told of them again and shows
    each step once. An exception that it raises ends its part and not the run.

    Args:
        run: what is tracked
    """

    packages: ClassVar[tuple[str, ...]] = ()
    """The modules that it needs and that ganscale itself does without."""
    install: ClassVar[str] = ""
    """The command that installs them."""
    id: str | None = None
    """The id by which the tracker knows the run; None if it has none that a resumed run needs."""

    def __init__(self, run: TrackedRun):
        raise NotImplementedError

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

    def judged_samples(self, step: int, samples: JudgedSamples) -> None:
        """Log samples with the discriminator's logits, if the tracker has tables."""

    def use_dataset(self, fingerprint: str, place: str) -> None:
        """Name the dataset that the run reads, if the tracker shows what a run comes from."""

    def keep(self, output: Output) -> None:
        """Keep a version of these files, if the tracker does and the experiment asks for it."""

    def alert(self, title: str, text: str) -> None:
        """Tell the user of an unhealthy run, if the tracker has a way to."""

    def finish(self) -> None:
        """Close the tracker of a run that has completed or will be resumed."""
        raise NotImplementedError

    def stop(self) -> None:
        """Close the tracker of a run that was stopped for good before its last step."""
        self.finish()

    def abandon(self) -> None:
        """Close the tracker of a run that has failed."""
        self.finish()


TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker",
    "ganscale.trackers",
    wanted="a class derived from ganscale.monitoring.trackers.tracker.Tracker",
    accepts=is_subclass_of(Tracker),
    modules=("ganscale.monitoring.trackers",),
)
