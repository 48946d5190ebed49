"""Ask a run, wherever its processes are, to write a checkpoint now."""

import argparse

from ganscale.commands.arguments import add_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run."""
    add_run(parser)


def run(options: argparse.Namespace) -> None:
    """Leave the request in the run folder."""
    from ganscale.runs.run_folder import SAVE, RunFolder

    RunFolder(options.run).ask(SAVE)
    print(f"{options.run}: asked for a checkpoint")
