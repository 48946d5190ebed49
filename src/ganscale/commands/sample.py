"""Write images that a run's generator makes."""

import argparse
from typing import TYPE_CHECKING

from ganscale.commands.arguments import (
    above_zero,
    add_checkpoint,
    add_run,
    add_trust_code,
    add_weights,
    natural,
    numbers,
    path,
    positive,
)
from ganscale.errors import GanscaleError

if TYPE_CHECKING:
    from ganscale.runs.sampler import Sampler
    from ganscale.runs.selection import Selection

SAMPLES = 10_000
GRID_IMAGES = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the weights, which samples are wanted, and the files."""
    add_run(parser)
    add_checkpoint(parser)
    add_weights(parser)
    which = parser.add_argument_group("which samples")
    either = which.add_mutually_exclusive_group()
    either.add_argument("--seed", type=natural, default=0, help="samples 0, 1, … of this seed (0)")
    either.add_argument(
        "--seeds",
        type=numbers,
        metavar="LIST",
        help="one sample of each, such as 0-35 or 3,7,10-12",
    )
    which.add_argument(
        "--num",
        type=positive,
        help=f"samples of --seed: {SAMPLES:,} in --out, of which --grid shows the first "
        f"{GRID_IMAGES}, or in --grid alone",
    )
    which.add_argument(
        "--class",
        type=numbers,
        dest="classes",
        metavar="LIST",
        help="all samples in this class, or in each of these (default: classes in turn)",
    )
    which.add_argument(
        "--mix", type=numbers, metavar="LIST", help="half way from each of --seeds to each of these"
    )
    which.add_argument(
        "--truncation", type=above_zero, metavar="T", help="keep the numbers of latents within ±T"
    )
    files = parser.add_argument_group("files, at least one")
    files.add_argument(
        "--out",
        type=path,
        help="FILE.npz (N×H×W×C, uint8 or uint16), or a folder for PNGs",
    )
    files.add_argument("--grid", type=path, help="FILE.png: one picture of many")
    files.add_argument("--interpolate", type=path, help="FILE.png or FILE.gif: latent paths")
    add_trust_code(parser)


def run(options: argparse.Namespace) -> None:
    """Write the files that were asked for and print their paths."""
    _check(options)
    from ganscale.monitoring.progress import set_up_logging
    from ganscale.runs.sampler import Sampler
    from ganscale.runs.selection import (
        images_of_selection,
        refuse_wrong_output,
        save_images,
        save_selection_grid,
    )

    set_up_logging(rank=0)
    if options.out:
        refuse_wrong_output(options.out)
    classes: tuple[int, ...] = options.classes or ()
    sampler = Sampler(
        options.run,
        options.checkpoint,
        options.weights,
        options.seed,
        classes[0] if len(classes) == 1 else None,
        options.trust_code,
        options.truncation,
    )
    if options.out or options.grid:
        selection = _select(sampler, options)
        images = images_of_selection(sampler, selection)
        if options.out:
            print(save_images(images, selection, options.out))
        if options.grid:
            is_excerpt = options.out and not (options.seeds or classes[1:])
            shown = GRID_IMAGES if is_excerpt else None
            print(save_selection_grid(images[:shown], selection, options.grid))
    if options.interpolate:
        print(sampler.save_interpolation(options.interpolate, options.seeds or ()))


def _check(options: argparse.Namespace) -> None:
    """Raise `GanscaleError` for options that contradict each other."""
    if not (options.out or options.grid or options.interpolate):
        raise GanscaleError(
            "say what to write: --out FILE.npz, --out FOLDER, --grid FILE.png or --interpolate FILE"
        )
    seeds, several = options.seeds or (), len(options.classes or ()) > 1
    if options.num and seeds:
        raise GanscaleError("--num counts the samples of --seed; --seeds gives one for each seed")
    if options.mix and not seeds:
        raise GanscaleError("--mix needs --seeds: each of --seeds is mixed with each of --mix")
    if options.mix and several:
        raise GanscaleError("--mix makes a grid of seeds, and takes one --class")
    if options.interpolate and (several or options.mix):
        raise GanscaleError("--interpolate takes one --class, and no --mix")
    if options.interpolate and len(seeds) == 1:
        raise GanscaleError("--interpolate needs two --seeds or more, or none")


def _select(sampler: "Sampler", options: argparse.Namespace) -> "Selection":
    """Return the samples that the options name."""
    from ganscale.gan.sampling import refuse_unknown_class
    from ganscale.runs.selection import first_samples, mixed_samples, samples_of_seeds

    if options.mix:
        return mixed_samples(sampler, options.seeds, options.mix)
    classes = options.classes or ()
    several = len(classes) > 1
    for label in classes:
        refuse_unknown_class(label, sampler.classes)
    if options.seeds:
        selection = samples_of_seeds(sampler, options.seeds)
    else:
        # A grid of several classes shows all that --out holds.
        default = SAMPLES if options.out and not (several and options.grid) else GRID_IMAGES
        share = max(1, default // max(1, len(classes)))
        selection = first_samples(sampler, options.num or share)
    return selection.in_classes(classes) if several else selection
