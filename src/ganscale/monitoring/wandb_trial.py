"""A run that the agent of a W&B sweep has started."""

import os
import re

from ganscale.config import Experiment
from ganscale.errors import GanscaleError


def trial_id() -> str | None:
    """By which W&B knows the trial that an agent has started as this process; None elsewhere.

    The agent sets both variables: https://docs.wandb.ai/models/track/environment-variables.
    """
    if not os.environ.get("WANDB_SWEEP_ID"):
        return None
    return os.environ.get("WANDB_RUN_ID") or None


def named_after_trial(experiment: Experiment) -> Experiment:
    """The experiment with a name, and so a run folder, of this trial's own; else as it is.

    A sweep starts one command again and again with other values: without this the second trial
    would find the first one's run in its folder.
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
