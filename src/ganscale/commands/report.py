"""Write a run's report.html again."""

import argparse

from ganscale.commands.arguments import add_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the run."""
    add_run(parser)


def run(options: argparse.Namespace) -> None:
    """Write the report and print its path."""
    from ganscale.monitoring.environment import environment
    from ganscale.runs.report import write_report
    from ganscale.runs.run_folder import RunFolder

    folder = RunFolder(options.run)
    experiment = folder.experiment()
    folder.refuse_links()
    print(write_report(folder, experiment, environment()))
