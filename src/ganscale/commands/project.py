"""Find the latent of a picture, and show how near the generator comes to it."""

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

STEPS = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the picture, the weights, and the search."""
    add_run(parser)
    parser.add_argument("picture", type=path, help="image file; resized as packing would")
    add_checkpoint(parser)
    add_weights(parser)
    add_class(parser)
    parser.add_argument("--seed", type=natural, default=0, help="of the latents to begin with")
    parser.add_argument("--steps", type=positive, default=STEPS, help=f"of the search ({STEPS})")
    parser.add_argument(
        "--out",
        type=path,
        metavar="FILE.png",
        help="picture, projection and nearest sample; the latent goes into the same name with "
        ".npz (default: projections/ in the run's folder)",
    )
    add_trust_code(parser)


def run(options: argparse.Namespace) -> None:
    """Project the picture, say how near the result is, and print the paths of its files."""
    from ganscale.monitoring.progress import set_up_logging
    from ganscale.runs.projection import project_picture, read_picture, save_projected
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
    target = read_picture(options.picture, sampler.experiment.image_shape, sampler.bits)
    default = sampler.folder.projections / f"{options.picture.stem}.png"
    found = project_picture(sampler, target, options.steps)
    files = save_projected(found, options.out or default)
    print(found)
    print(*files, sep="\n")
