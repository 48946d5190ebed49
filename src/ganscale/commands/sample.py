"""Write images that a run's generator makes."""

import argparse

from ganscale.commands.arguments import (
    add_checkpoint,
    add_class,
    add_run,
    add_trust_code,
    add_weights,
    natural,
    path,
    positive,
)
from ganscale.errors import GanscaleError

SAMPLES = 10_000
GRID_IMAGES = 64
NUM_HELP = (
    f"images in --out ({SAMPLES:,}), of which --grid shows the first {GRID_IMAGES}, "
    "or in --grid alone"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the weights, the noise and the files."""
    add_run(parser)
    add_checkpoint(parser)
    add_weights(parser)
    add_class(parser)
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--num", type=positive, help=NUM_HELP)
    parser.add_argument("--out", type=path, help="FILE.npz: uint8, N×H×W×C")
    parser.add_argument("--grid", type=path, help="FILE.png: one picture of many")
    parser.add_argument("--interpolate", type=path, help="FILE.png or FILE.gif: latent paths")
    add_trust_code(parser)


def run(options: argparse.Namespace) -> None:
    """Write the files that were asked for and print their paths."""
    if not (options.out or options.grid or options.interpolate):
        raise GanscaleError(
            "say what to write: --out FILE.npz, --grid FILE.png or --interpolate FILE"
        )
    from ganscale.monitoring.progress import set_up_logging
    from ganscale.runs.sampler import Sampler

    set_up_logging(rank=0)
    sampler = Sampler(
        options.run,
        options.checkpoint,
        options.weights,
        options.seed,
        options.label,
        options.trust_code,
    )
    if options.out:
        print(sampler.save_npz(options.num or SAMPLES, options.out))
    if options.grid:
        shown = options.num or GRID_IMAGES
        print(sampler.save_grid(min(shown, GRID_IMAGES) if options.out else shown, options.grid))
    if options.interpolate:
        print(sampler.save_interpolation(options.interpolate))
