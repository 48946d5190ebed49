"""Upload a run's generator to the Hugging Face Hub, with a model card."""

import argparse

from ganscale.commands.arguments import add_checkpoint, add_license, add_run, add_trust_code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint and the model's name."""
    add_run(parser)
    parser.add_argument("name", help="user/name on the hub; created if need be, else replaced")
    add_checkpoint(parser)
    add_license(parser)
    parser.add_argument("--private", action="store_true", help="create it for yourself alone")
    add_trust_code(parser)


def run(options: argparse.Namespace) -> None:
    """Upload the generator, its card and samples, and print the address."""
    from ganscale.monitoring.progress import set_up_logging
    from ganscale.runs.hub import push

    set_up_logging(rank=0)
    address = push(
        options.run,
        options.name,
        options.checkpoint,
        private=options.private,
        license=options.license,
        trust_code=options.trust_code,
    )
    print(address)
