"""Upload to W&B what runs have logged without a network."""

import argparse
import sys
import time
from pathlib import Path

from ganscale.commands.arguments import above_zero, path
from ganscale.errors import GanscaleError
from ganscale.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the runs and how much to trust them."""
    parser.add_argument("runs", type=path, nargs="*", default=[], metavar="run", help="run folder")
    parser.add_argument(
        "--all", type=path, metavar="FOLDER", help="all of your runs in this folder, e.g. runs"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be uploaded")
    parser.add_argument(
        "--every", type=above_zero, metavar="SECONDS", help="do it again so often, until Ctrl-C"
    )
    parser.add_argument(
        "--timeout", type=above_zero, default=60.0, help="seconds to wait for an answer (60)"
    )
    parser.add_argument(
        "--trust-id",
        action="store_true",
        help="upload under the id that the run names, although you did not train it here",
    )


def run(options: argparse.Namespace) -> int:
    """Upload, and print what each run has got; return the exit code."""
    from ganscale.monitoring.progress import set_up_logging

    if not options.runs and options.all is None:
        raise GanscaleError("name a run folder, or --all FOLDER")
    set_up_logging(rank=0)
    while True:
        code = _sync_each(options)
        if options.every is None:
            return code
        time.sleep(options.every)


def _sync_each(options: argparse.Namespace) -> int:
    """Upload what each run has by now; return the exit code.

    A run that cannot be uploaded is reported, and the others follow.
    """
    from ganscale.runs.sync.upload import sync

    codes = set()
    for folder in [*options.runs, *_runs_in(options.all)]:
        try:
            for uploaded in sync(
                folder,
                trust_id=options.trust_id,
                dry_run=options.dry_run,
                timeout=options.timeout,
            ):
                print(f"{folder}: {uploaded}", flush=True)
        except GanscaleError as error:
            codes.add(error.exit_code)
            print(f"ganscale: error: {printable(str(error))}", file=sys.stderr, flush=True)
    return min(codes, default=0)  # 75, that trying again may help, only if it may for all


def _runs_in(folder: Path | None) -> list[Path]:
    """Return the runs in a folder that have logged to W&B."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise GanscaleError(f"{folder}: no such folder; name the one that holds the runs")
    return sorted(path.parent for path in folder.glob("*/wandb") if path.is_dir())
