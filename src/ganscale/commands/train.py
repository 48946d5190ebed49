"""Train an experiment, resuming where its run folder left off."""

import argparse
import os
import re
from typing import TYPE_CHECKING

from ganscale.commands.arguments import add_overrides, path
from ganscale.errors import GanscaleError

if TYPE_CHECKING:
    from ganscale.config import Experiment

LAUNCHERS = {  # the least value of each; -1 is a launcher's word for none
    "RANK": -1,
    "LOCAL_RANK": -1,
    "GROUP_RANK": -1,
    "WORLD_SIZE": 1,
    "LOCAL_WORLD_SIZE": 1,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the experiment and what it changes."""
    parser.add_argument("experiment", type=path, help="experiment file")
    add_overrides(parser, "e.g. train.steps=2000")


def run(options: argparse.Namespace) -> int:
    """Train, or say that there is nothing left to do; returns the exit code."""
    from ganscale.config.load import load
    from ganscale.monitoring.wandb_trial import named_after_trial

    refuse_bad_ranks()
    try:
        experiment = named_after_trial(load(options.experiment, options.overrides))
    except GanscaleError as error:
        error.every_rank = True
        raise
    return train_unless_finished(experiment)


def train_unless_finished(experiment: "Experiment") -> int:
    """Train, or say at once that it is done: what trains takes many seconds to import.

    Several processes have to agree on it first, which they do once they have met.
    """
    from ganscale.runs.run_folder import RunFolder

    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        folder = RunFolder.of(experiment)
        if folder.is_finished(experiment):
            folder.say_finished(experiment)
            return 0
    from ganscale.training.trainer import train

    return train(experiment)


def refuse_bad_ranks() -> None:
    """Raise `GanscaleError` for what Accelerate and torch would take as a number, unchecked."""
    for name, least in LAUNCHERS.items():
        value = os.environ.get(name, str(least))
        if not re.fullmatch("-?[0-9]{1,9}", value) or int(value) < least:
            wanted = "a number" if least < 0 else f"a number of at least {least}"
            raise GanscaleError(
                f"{name}={value} in the environment is not {wanted}: a launcher sets it "
                f"(accelerate launch, torchrun, srun); without one, unset {name}"
            )
