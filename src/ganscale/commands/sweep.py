"""Train one run of a grid, or show how far all of them are."""

import argparse
import shutil

from ganscale.commands.arguments import add_overrides, natural, path
from ganscale.commands.train import train_unless_finished
from ganscale.engines.launcher import Launcher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the grid and which of its runs is meant."""
    parser.add_argument("grid", type=path, help="grid file, e.g. configs/sweeps/mnist_lr.yaml")
    add_overrides(parser, "the same for all runs")
    parser.add_argument("--task", type=natural, help="train this run, counted from 0")
    parser.add_argument("--folder", action="store_true", help="print that run's folder instead")


def run(options: argparse.Namespace) -> int:
    """Train the run that --task names, or print the table; returns the exit code."""
    from ganscale.runs.sweep import Sweep

    sweep = Sweep.load(options.grid)
    if options.task is not None:
        experiment = sweep.run(options.task, options.overrides)
        if options.folder:
            print(experiment.folder)
            return 0
        return train_unless_finished(experiment, Launcher.from_environment())
    from rich.console import Console

    width = max(120, shutil.get_terminal_size().columns)
    Console(width=width).print(sweep.table(options.overrides))
    return 0
