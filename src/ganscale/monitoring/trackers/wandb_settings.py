"""What W&B is started with: the experiment's section, and the environment, which takes priority.

In `wandb.init` an argument wins over the environment, so a value of the experiment is not passed
where its variable is set. The variable's own value is: W&B reads the environment only once in a
process, and a notebook may change it between two runs.
"""

import os
import secrets
from pathlib import Path
from typing import Any

from ganscale.config import Experiment
from ganscale.monitoring.wandb_trial import trial_id

VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
    "notes": "WANDB_NOTES",
    "job_type": "WANDB_JOB_TYPE",
    "resume": "WANDB_RESUME",
    "dir": "WANDB_DIR",
}
"""The variable that takes priority over each argument of `wandb.init`
(https://docs.wandb.ai/models/track/environment-variables)."""
MODES = {"dryrun": "offline", "run": "online"}
"""Older names of modes that WANDB_MODE may have."""
OF_A_SWEEP = ("project", "entity", "id")
"""What a sweep's agent decides: W&B ignores these arguments in a trial, and warns of them."""


def requested_mode(experiment: Experiment) -> str:
    """Return `auto`, `online`, `offline` or `disabled`, as the environment or the experiment says.

    `WANDB_MODE=shared` is online: rank 0 alone writes to the run, and W&B would ignore its steps.
    """
    mode = os.environ.get("WANDB_MODE") or experiment.monitoring.wandb.mode
    return "online" if mode == "shared" else MODES.get(mode, mode)


def arguments_of_init(experiment: Experiment, run: Path, wandb_id: str | None) -> dict[str, Any]:
    """Return the arguments of `wandb.init` that say which run it is, without its mode.

    Args:
        experiment: what trains
        run: the run's folder
        wandb_id: the id by which W&B knows a run that is resumed, which keeps it whatever
            `WANDB_RUN_ID` says; None for a new one
    """
    section = experiment.monitoring.wandb
    arguments: dict[str, Any] = {
        "project": section.project,
        "entity": section.entity,
        "name": experiment.name,
        "group": section.group,
        "tags": section.tags or None,
        "notes": section.notes,
        "job_type": section.job_type,
        "id": wandb_id or os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4),
        "resume": "allow",
        "dir": str(run),
    }
    for argument, variable in VARIABLES.items():
        if value := os.environ.get(variable):
            arguments[argument] = value.split(",") if argument == "tags" else value
    if trial_id() is not None:
        # The agent sets WANDB_DIR to the folder in which it was started.
        arguments |= {**dict.fromkeys(OF_A_SWEEP), "dir": str(run)}
    return arguments


def seconds_to_wait(experiment: Experiment) -> float:
    """Return how long W&B may take to start, as the environment or the experiment says."""
    return float(os.environ.get("WANDB_INIT_TIMEOUT") or experiment.monitoring.wandb.timeout)
