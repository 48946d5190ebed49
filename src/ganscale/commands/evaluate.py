"""Score checkpoints: FID, KID, IS, precision, recall, density, coverage."""

import argparse
import shutil
from typing import Any

from ganscale.commands.arguments import add_run, add_trust_code, positive
from ganscale.terminal import printable

MAX_WIDTH = 1000  # of a table, in characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoints and what the experiment's evaluation is replaced by."""
    add_run(parser)
    parser.add_argument(
        "--checkpoint",
        default="latest",
        metavar="NAMES",
        help="latest, best, or a step's name; several between commas, all, or every:N steps",
    )
    parser.add_argument("--num", type=positive, help="generated images (default: the experiment's)")
    parser.add_argument(
        "--features",
        metavar="NAME",
        help="as evaluation.features (see: ganscale config --explain evaluation.features)",
    )
    parser.add_argument(
        "--weights",
        "--inception-weights",  # its name when Inception was the only such network
        metavar="FILE",
        help="as evaluation.weights (default: fetched at need)",
    )
    parser.add_argument(
        "--metrics",
        metavar="NAME,…",
        help="more metrics (see: ganscale config --explain evaluation.metrics)",
    )
    parser.add_argument(
        "--again",
        action="store_true",
        help="of several checkpoints, score also those that are scored",
    )
    add_trust_code(parser)


def run(options: argparse.Namespace) -> None:
    """Evaluate and print the scores; rank 0 prints."""
    from ganscale.engines.distributed import leave
    from ganscale.engines.launcher import Launcher
    from ganscale.monitoring.progress import set_up_logging
    from ganscale.runs.scoring import evaluate, evaluate_several, names_several

    rank = Launcher.from_environment().rank
    set_up_logging(rank)
    changes: dict[str, Any] = {
        "samples": options.num,
        "features": options.features,
        "weights": options.weights,
        "metrics": options.metrics.split(",") if options.metrics else None,
    }
    if names_several(options.checkpoint):
        lines = evaluate_several(
            options.run, options.checkpoint, changes, options.trust_code, options.again
        )
        if rank == 0:
            _print_curve(options, lines)
    else:
        name, scores = evaluate(options.run, options.checkpoint, changes, options.trust_code)
        if rank == 0:
            print(printable(f"{name}: {scores}"))  # a set names itself
    leave()


def _print_curve(options: argparse.Namespace, lines: list[Any]) -> None:
    from rich.console import Console

    from ganscale.runs.curve import curve_table
    from ganscale.runs.run_folder import RunFolder

    table = curve_table(lines, RunFolder(options.run).experiment().evaluation)
    # Wider than the terminal rather than with numbers that are cut off.
    needed = Console(width=MAX_WIDTH).measure(table).minimum
    Console(width=max(needed, shutil.get_terminal_size().columns)).print(table)
