"""Support for runs that the agent of a W&B sweep starts."""

import os
import re

from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.monitoring.wandb_server import Server

ASK_S = 10


def trial_id() -> str | None:
    """Return W&B's id of the trial that this process runs, or None outside of a W&B sweep.

    The agent sets both variables: https://docs.wandb.ai/models/track/environment-variables.
    """
    if not os.environ.get("WANDB_SWEEP_ID"):
        return None
    return os.environ.get("WANDB_RUN_ID") or None


def is_trial_stopped() -> bool:
    """Return whether W&B has asked to end this trial, as a sweep's `early_terminate` does.

    Returns False if its server cannot be asked.
    """
    trial = trial_id()
    if trial is None:
        return False
    project, entity = os.environ.get("WANDB_PROJECT", ""), os.environ.get("WANDB_ENTITY")
    try:
        return Server(ASK_S).is_stopped(project, entity, trial)
    except GanscaleError:
        return False


def name_after_trial(experiment: Experiment) -> Experiment:
    """Return the experiment with a name that is unique to this trial; outside a sweep, unchanged.

    A sweep repeats one command with different values. Without a name of its own, and hence its own
    run folder, the second trial would find the first one's run.
    """
    trial = trial_id()
    if trial is None:
        return experiment
    if not re.fullmatch(r"[A-Za-z0-9._-]+", trial):
        raise GanscaleError(
            f"WANDB_RUN_ID={trial!r} cannot be part of a run's name; use letters and digits",
            every_rank=True,
        )
    return experiment.model_copy(update={"name": f"{experiment.name}-{trial}"})
