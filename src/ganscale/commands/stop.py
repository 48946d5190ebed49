"""Ask a run, wherever its processes are, to save and end."""

import argparse

from ganscale.commands.arguments import add_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run."""
    add_run(parser)


def run(options: argparse.Namespace) -> None:
    """Leave the request in the run folder."""
    from ganscale.runs.run_folder import STOP, RunFolder

    RunFolder(options.run).ask(STOP)
    print(f"{options.run}: asked to save and end")
