"""Run some real steps under a profiler: where their time goes, and what to do."""

import argparse
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ganscale.commands.arguments import add_overrides, path, positive

if TYPE_CHECKING:
    from rich.table import Table

    from ganscale.training.profile import Profile

TOP = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the experiment, how many steps are profiled, and where the trace goes."""
    parser.add_argument("experiment", type=path, help="experiment file")
    add_overrides(parser, "e.g. train.batch_size=512")
    parser.add_argument(
        "--steps",
        type=positive,
        default=16,
        help="steps to time, and as many to profile (16: a penalty with every: 16 is in one)",
    )
    parser.add_argument(
        "--trace", type=path, metavar="FILE.json", help="Chrome trace (trace-NAME.json)"
    )


def run(options: argparse.Namespace) -> None:
    """Profile, and print where the time goes; no run folder is touched."""
    # The profiler's own notes say nothing to a user.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from rich.console import Console

    from ganscale.config.load import load
    from ganscale.training.advice import advise
    from ganscale.training.profile import profile_steps

    experiment = load(options.experiment, options.overrides)
    trace: Path = options.trace or Path(f"trace-{experiment.name}.json")
    profile = profile_steps(experiment, options.steps, trace)
    if profile is None:
        return
    console = Console(width=max(100, shutil.get_terminal_size().columns), highlight=False)
    console.print(_parts(profile))
    console.print(_operations(profile))
    for line in [*_speed(experiment.train.batch_size, profile), *advise(experiment, profile)]:
        console.print(line, markup=False)
    console.print(f"trace: {trace} (open it at https://ui.perfetto.dev)", markup=False)


def _parts(profile: "Profile") -> "Table":
    """Return a row for each part of a step, the longest first."""
    from rich.table import Table

    table = Table(box=None)
    table.add_column("part of a step")
    table.add_column("ms a step", justify="right")
    table.add_column("share", justify="right")
    total = sum(profile.parts.values())
    for part, seconds in sorted(profile.parts.items(), key=lambda row: -row[1]):
        table.add_row(part, f"{seconds * 1e3:,.3f}", f"{seconds / total:.1%}")
    table.add_row("sum", f"{total * 1e3:,.3f}", "", end_section=True)
    return table


def _operations(profile: "Profile") -> "Table":
    """Return the operations that take the most time by themselves."""
    from rich.table import Table

    table = Table(box=None)
    table.add_column(f"the {TOP} longest operations")
    table.add_column("calls a step", justify="right")
    table.add_column("ms a step", justify="right")
    table.add_column("share", justify="right")
    total = sum(row.seconds for row in profile.operations)
    for row in profile.operations[:TOP]:
        table.add_row(
            row.name[:60],
            f"{row.calls:,.1f}",
            f"{row.seconds * 1e3:,.3f}",
            f"{row.seconds / total:.1%}",
        )
    return table


def _speed(batch_size: int, profile: "Profile") -> list[str]:
    """Return how fast the steps are, and against what."""
    slower = profile.profiled_s / profile.step_s
    lines = [
        f"{profile.device}, {profile.data}",
        f"Without the profiler a step takes {profile.step_s * 1e3:,.2f} ms, "
        f"{batch_size / profile.step_s:,.0f} images/s; with it {slower:.2f} times as long.",
    ]
    if profile.flop_per_image is not None and profile.flop_per_s is not None:
        lines.append(
            f"{profile.flop_per_image / 1e9:,.3f} GFLOP an image, second derivatives included: "
            f"{profile.flop_per_s / 1e9:,.1f} GFLOP/s a process, {profile.mfu:.1%} of the "
            f"{profile.matmul_rate / 1e9:,.1f} GFLOP/s that a large matrix product reaches here."
        )
    return lines
