"""The gallery of a checkpoint: samples, a walk between latents, and nearest real neighbours."""

from pathlib import Path

import torch

from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.samples import pixels
from ganscale.monitoring.pictures import save_grid
from ganscale.runs.sampler import Sampler

SAMPLES_PER_CLASS = 8
SAMPLES = 64
COMPARED, NEIGHBOURS = 12, 7  # generated images in the neighbours' picture, real ones beside each


def draw_gallery(sampler: Sampler, evaluator: Evaluator | None) -> list[Path]:
    """Write the pictures of a checkpoint into its run folder; return their paths.

    The picture of neighbours needs an evaluator's features: each row shows a generated image and
    then the real images nearest to it. It reveals a generator that has memorized its dataset.
    """
    run = sampler.folder
    number = SAMPLES_PER_CLASS * sampler.classes if sampler.classes else SAMPLES
    pictures = [
        sampler.save_grid(number, run.gallery_samples),
        sampler.save_interpolation(run.gallery_walk),
    ]
    if evaluator is not None:
        generated = next(sampler.batches(COMPARED))
        nearest = evaluator.nearest(generated, NEIGHBOURS)
        rows = torch.cat([generated[:, None], nearest], 1).flatten(0, 1)
        columns = NEIGHBOURS + 1
        pictures.append(save_grid(pixels(rows), run.gallery_neighbours, columns))
    return pictures
