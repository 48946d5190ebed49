"""List the runs of a folder: what each is doing, how far it is, and its best score."""

import argparse
import json
from pathlib import Path

from ganscale.commands.arguments import path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder and the output's form."""
    parser.add_argument(
        "folder", type=path, nargs="?", default=Path("runs"), help="folder of runs (runs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> None:
    """Print the runs, the one that logged last first."""
    from ganscale.runs.overview import as_objects, as_table, summarize_runs

    runs = summarize_runs(options.folder)
    if options.json:
        print(json.dumps(as_objects(runs), indent=2))
    elif runs:
        print(as_table(runs))
    else:
        print(f"{options.folder} holds no runs")
