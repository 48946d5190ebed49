"""Score a checkpoint: FID, KID, IS, precision, recall, density, coverage."""

import argparse

from ganscale.commands.arguments import add_checkpoint, add_run, add_trust_code, positive
from ganscale.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the checkpoint and what the experiment's evaluation is replaced by."""
    add_run(parser)
    add_checkpoint(parser)
    parser.add_argument("--num", type=positive, help="generated images (default: the experiment's)")
    parser.add_argument(
        "--features",
        metavar="NAME",
        help="as evaluation.features (see: ganscale config --explain evaluation.features)",
    )
    parser.add_argument("--inception-weights", help="file (default: fetched at need)")
    add_trust_code(parser)


def run(options: argparse.Namespace) -> None:
    """Evaluate and print the scores."""
    from ganscale.monitoring.progress import set_up_logging
    from ganscale.runs.scoring import evaluate

    set_up_logging(rank=0)
    changes = {
        "samples": options.num,
        "features": options.features,
        "inception_weights": options.inception_weights,
    }
    name, scores = evaluate(options.run, options.checkpoint, changes, options.trust_code)
    print(printable(f"{name}: {scores}"))  # a set names itself
