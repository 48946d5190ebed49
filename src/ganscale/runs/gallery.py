"""The gallery of a checkpoint: samples, a walk between latents, and nearest real neighbours."""

import io
from pathlib import Path

import torch
from PIL import Image

from ganscale.evaluation.evaluator import Evaluator
from ganscale.evaluation.samples import pixels
from ganscale.files import write_output
from ganscale.monitoring.pictures import save_grid
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.sampler import Sampler

SAMPLES_PER_CLASS = 8
SAMPLES = 64
COMPARED, NEIGHBOURS = 12, 7  # generated images in the neighbours' picture, real ones beside each
MAX_FRAMES = 100  # of a longer run, the video shows every n-th grid
FRAME_MS, LAST_FRAME_MS = 200, 2_000
VIDEO_SIDE = 512  # pixels at most


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


def draw_video(run: RunFolder) -> list[Path]:
    """Write the grids of samples of the whole run, one after another, as an animated GIF.

    Returns its path, or nothing if there are no grids. Grids of other sizes than the last one,
    which the run drew with another number of pictures, are left out.
    """
    grids = [path for _, path in run.sample_grids()]
    stride = -(-len(grids) // MAX_FRAMES) or 1
    frames = []
    for path in [*grids[:-1:stride], *grids[-1:]]:
        with Image.open(io.BytesIO(run.read(path))) as picture:
            frame = picture.convert("RGB")
        frame.thumbnail((VIDEO_SIDE, VIDEO_SIDE))
        frames.append(frame)
    frames = [frame for frame in frames if frame.size == frames[-1].size]
    if not frames:
        return []
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    return [write_output(run.gallery_training, buffer.getvalue())]
