"""Which trackers an experiment asks for, and whether their packages are installed."""

import importlib.util

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.monitoring.trackers.tracker import TRACKERS
from ganscale.monitoring.trackers.wandb_settings import requested_mode


def chosen_trackers(experiment: Experiment) -> tuple[str, ...]:
    """Return the names of the experiment's trackers, without W&B where that is disabled."""
    without = requested_mode(experiment) == "disabled"
    return tuple(name for name in experiment.monitoring.trackers if name != "wandb" or not without)


def uses_wandb(experiment: Experiment) -> bool:
    """Return whether this experiment's runs are logged to W&B, online or offline."""
    return "wandb" in chosen_trackers(experiment)


def refuse_missing_trackers(experiment: Experiment) -> None:
    """Raise `GanscaleError` where the package of a tracker is not installed."""
    for name in chosen_trackers(experiment):
        tracker = TRACKERS.get(name)
        missing = [p for p in tracker.packages if importlib.util.find_spec(p) is None]
        if missing:
            raise GanscaleError(
                f"monitoring.trackers: {name} needs the package {missing[0]}, which is not "
                f"installed: {tracker.install or 'install it'}",
                every_rank=True,
            )
