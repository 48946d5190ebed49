"""Train one run of a grid or all of them, or show how far they are."""

import argparse
import gc
import shutil
import sys
import traceback
from typing import TYPE_CHECKING

from ganscale.commands.arguments import add_overrides, natural, path
from ganscale.commands.train import train_unless_finished
from ganscale.engines.launcher import Launcher
from ganscale.errors import GanscaleError
from ganscale.system_errors import describe_error, find_system_error
from ganscale.terminal import printable

if TYPE_CHECKING:
    from ganscale.runs.sweep import Sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the grid and which of its runs is meant."""
    parser.add_argument("grid", type=path, help="grid file, e.g. configs/sweeps/mnist_lr.yaml")
    add_overrides(parser, "the same for all runs")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--task", type=natural, help="train this run, counted from 0")
    which.add_argument("--all", action="store_true", help="train all runs, one after another")
    parser.add_argument("--folder", action="store_true", help="print the folder of --task instead")


def run(options: argparse.Namespace) -> int:
    """Train the runs that are meant, or print the table; returns the exit code."""
    from ganscale.runs.sweep import Sweep

    sweep, launcher = Sweep.load(options.grid), Launcher.from_environment()
    if options.task is not None:
        experiment = sweep.run(options.task, options.overrides)
        if options.folder:
            print(experiment.folder)
            return 0
        return train_unless_finished(experiment, launcher)
    if not options.all:
        _print_table(sweep, options.overrides)
        return 0
    if launcher.world_size > 1:
        raise GanscaleError(
            "--all trains in one process; with several, train each run by --task, or submit all "
            "of them as an array (slurm/sweep.sbatch)",
            every_rank=True,
        )
    return _train_all(sweep, options.overrides, launcher)


def _train_all(sweep: "Sweep", overrides: list[str], launcher: Launcher) -> int:
    """Train all runs, print the table, and return the exit code of the signal that stopped them.

    Raises `GanscaleError`, which names the runs that failed, once the others are done.
    """
    failed: dict[str, str] = {}
    code, count = 0, len(sweep.combinations())
    for number in range(count):
        name = sweep.name_of(number)
        print(f"{name}: run {number + 1} of {count}", flush=True)
        try:
            code = train_unless_finished(sweep.run(number, overrides), launcher)
        except Exception as error:
            failed[name] = _explain(error)
            print(f"{name} has failed: {printable(failed[name])}", file=sys.stderr, flush=True)
        if code:
            break
        gc.collect()  # a run's networks and data, before the next one's take as much memory
    _print_table(sweep, overrides, by_score=True)
    if failed:
        lines = "".join(f"\n  {name}: {message}" for name, message in failed.items())
        raise GanscaleError(f"{len(failed)} of {count} runs failed:{lines}")
    return code


def _explain(error: Exception) -> str:
    """Return what to say of an error; print the traceback of one that ganscale does not know."""
    if isinstance(error, GanscaleError):
        return str(error)
    cause = find_system_error(error)
    if cause is not None:
        return describe_error(cause)
    traceback.print_exception(error)
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _print_table(sweep: "Sweep", overrides: list[str], by_score: bool = False) -> None:
    from rich.console import Console

    width = max(120, shutil.get_terminal_size().columns)
    Console(width=width).print(sweep.table(overrides, by_score))
