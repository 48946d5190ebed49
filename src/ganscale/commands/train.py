"""Train an experiment; if its run folder has a checkpoint, resume from it."""

import argparse
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


def run(options: argparse.Namespace) -> int:
    """Train, or print that the run is finished; return the exit code."""
    from ganscale.config.load import load
    from ganscale.monitoring.wandb_trial import name_after_trial

    launcher = Launcher.from_environment()
    try:
        experiment = name_after_trial(load(options.experiment, options.overrides))
    except GanscaleError as error:
        error.every_rank = True
        raise
    return train_unless_finished(experiment, launcher)


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
