"""Train an experiment; if its run folder has a checkpoint, resume from it."""

import argparse
import os
from typing import TYPE_CHECKING

from ganscale.commands.arguments import add_overrides, path
from ganscale.engines.launcher import Launcher
from ganscale.errors import GanscaleError

if TYPE_CHECKING:
    from ganscale.config import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the experiment and its overrides."""
    parser.add_argument("experiment", type=path, help="experiment file")
    add_overrides(parser, "e.g. train.steps=2000")
    parser.add_argument(
        "--new", action="store_true", help="start a new run under the next number: NAME-2, …"
    )


def run(options: argparse.Namespace) -> int:
    """Train, or print that the run is finished; return the exit code."""
    from ganscale.config.load import load
    from ganscale.monitoring.wandb_trial import name_after_trial

    launcher = Launcher.from_environment()
    if options.new:
        _refuse_numbers(launcher)
    try:
        experiment = name_after_trial(load(options.experiment, options.overrides))
    except GanscaleError as error:
        error.every_rank = True
        raise
    if options.new:
        from ganscale.training.trainer import train

        return train(experiment, launcher, new=True)
    return train_unless_finished(experiment, launcher)


def _refuse_numbers(launcher: Launcher) -> None:
    """Raise `GanscaleError` where a process that is started again would take another number."""
    if "SLURM_JOB_ID" in os.environ:
        raise GanscaleError(
            "--new: a job that Slurm starts again would take another number: `ganscale submit "
            "--new` takes one for the whole job; inside a job, name the run (name=…)",
            every_rank=True,
        )
    if launcher.world_size > launcher.local_world_size:
        raise GanscaleError(
            "--new: a launcher on several nodes does not tell a new start from a restart, which "
            "would take another number: name the run (name=…)",
            every_rank=True,
        )


def train_unless_finished(experiment: "Experiment", launcher: Launcher) -> int:
    """Train, or print that the run is finished without the slow imports that training needs.

    Several processes would first have to agree on that; they do so after they have connected.
    """
    from ganscale.runs.run_folder import RunFolder

    if launcher.world_size == 1:
        folder = RunFolder.of(experiment)
        if folder.is_finished(experiment):
            folder.say_finished(experiment)
            return 0
    from ganscale.training.trainer import train

    return train(experiment, launcher)
