"""Print an experiment with everything that it leaves to defaults."""

import argparse
from pathlib import Path

from ganscale.commands.arguments import add_overrides, path
from ganscale.shipped import shipped
from ganscale.terminal import print_text

CONFIGS = Path("configs")  # of the clone or the project in whose folder commands are typed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the experiment and what to print of it."""
    parser.add_argument("experiment", type=path, nargs="?", help="default: all defaults")
    add_overrides(parser)
    parser.add_argument(
        "--explain",
        metavar="KEY",
        help="print what a key means and which files in configs/ set it",
    )
    parser.add_argument(
        "--reference", action="store_true", help="print what every key means, in Markdown"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON schema instead")
    parser.add_argument("--folder", action="store_true", help="print the run folder's path instead")


def run(options: argparse.Namespace) -> None:
    """Print the experiment, or what an option asks for instead."""
    from ganscale.config.explain import explain
    from ganscale.config.load import json_schema, load, to_yaml
    from ganscale.config.reference import reference
    from ganscale.monitoring.wandb_trial import name_after_trial

    file, overrides = options.experiment, options.overrides
    if file is not None and "=" in str(file):  # overrides alone, over the defaults
        file, overrides = None, [str(file), *overrides]
    if options.explain is not None:
        configs = CONFIGS if CONFIGS.is_dir() else shipped(str(CONFIGS))
        print_text(explain(options.explain, configs))
        return
    if options.reference:
        print_text(reference())
        return
    if options.schema:
        print_text(json_schema())
        return
    experiment = name_after_trial(load(file, overrides))
    if options.folder:
        print(experiment.folder)
    else:
        print_text(to_yaml(experiment))
