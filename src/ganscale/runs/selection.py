"""Which samples of a run are wanted, and the files that they are written into."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganscale.data.reading.png import Pixels, encode
from ganscale.errors import GanscaleError
from ganscale.evaluation.samples import pixels
from ganscale.files import refuse_special, write_output
from ganscale.gan.sampling import generate_from, mix, seed_labels
from ganscale.monitoring.grids import BORDER_GREY, show
from ganscale.monitoring.pictures import columns_of_classes, save_grid
from ganscale.monitoring.progress import tracked
from ganscale.runs.sampler import Sampler

BATCH_SIZE = 500

log = logging.getLogger("ganscale")


@dataclass(frozen=True)
class Selection:
    """Samples by their latents, with what a file name and a grid say of them."""

    latents: Tensor
    """(N, dim)."""
    labels: tuple[Tensor, ...]
    """Their classes (N,), or nothing."""
    names: tuple[str, ...]
    """What tells them apart, for file names; without the class."""
    columns: int | None = None
    """Columns of a grid; None for one that is about square."""
    has_corner: bool = False
    """True if the first row and the first column of a grid are headings, with nothing where they
    meet."""

    def names_with_class(self) -> list[str]:
        """Return the name of each sample with its class, if it has one."""
        if not self.labels:
            return list(self.names)
        classes = self.labels[0].tolist()
        return [f"{n}-class{c:02d}" for n, c in zip(self.names, classes, strict=True)]

    def in_classes(self, classes: Sequence[int]) -> "Selection":
        """Return each of these samples in each class: a row of a grid is a class."""
        number, times = len(self.names), len(classes)
        return Selection(
            self.latents.repeat(times, 1),
            (torch.tensor(classes).repeat_interleave(number),),
            self.names * times,
            columns=number,
        )


def first_samples(sampler: Sampler, number: int) -> Selection:
    """Return samples 0 … `number` - 1 of the sampler's seed; sample i is row i of one draw."""
    rows = range(number)
    labels = sampler.labels(rows)
    names = tuple(f"seed{sampler.seed:04d}-{row:05d}" for row in rows)
    columns = columns_of_classes(number, sampler.classes if sampler.cycles_classes else None)
    return Selection(sampler.latents(rows), labels, names, columns)


def samples_of_seeds(sampler: Sampler, seeds: Sequence[int]) -> Selection:
    """Return one sample for each seed, whatever list it stands in.

    Its latent is that of the seed's sample 0, and its class the seed mod the number of classes, or
    the sampler's.
    """
    labels = seed_labels(seeds, sampler.classes, sampler.label)
    names = tuple(f"seed{seed:04d}" for seed in seeds)
    return Selection(sampler.seed_latents(seeds), labels, names)


def mixed_samples(sampler: Sampler, rows: Sequence[int], columns: Sequence[int]) -> Selection:
    """Return the sample half way between each of two lists of seeds, with the seeds' own.

    In a grid, the samples of the seeds stand above and beside. A conditional generator mixes in the
    class of the row's seed.
    """
    beside, above = sampler.seed_latents(rows), sampler.seed_latents(columns)
    mixed = mix(beside, above, sampler.experiment.latent.distribution)
    mixed = mixed.view(len(rows), len(columns), -1)
    body = torch.cat([beside[:, None], mixed], 1).flatten(0, 1)
    classes_beside, classes_above = (
        seed_labels(seeds, sampler.classes, sampler.label) for seeds in (rows, columns)
    )
    labels = tuple(
        torch.cat([upper, left.repeat_interleave(len(columns) + 1)])
        for left, upper in zip(classes_beside, classes_above, strict=True)
    )
    names = [f"seed{column:04d}" for column in columns]
    for row in rows:
        names.append(f"seed{row:04d}")
        names += [f"seed{row:04d}-seed{column:04d}" for column in columns]
    return Selection(
        torch.cat([above, body]), labels, tuple(names), len(columns) + 1, has_corner=True
    )


def images_of_selection(sampler: Sampler, selection: Selection) -> Pixels:
    """Return the images, uint8 or uint16 (N, H, W, C), showing the progress meanwhile."""
    number = len(selection.names)
    batches = generate_from(
        sampler.generator, selection.latents, selection.labels, BATCH_SIZE, sampler.bits
    )
    return pixels(torch.cat(list(tracked(batches, number, "generating samples", len))))


def save_images(images: Pixels, selection: Selection, path: Path) -> Path:
    """Write images into an .npz file, or into a folder as PNG files named by seed and class.

    The .npz file has them as `images`, uint8 or uint16 (N, H, W, C), and `labels` (N,) of a
    conditional generator. Raises `GanscaleError` for a path that is neither.
    """
    refuse_wrong_output(path)
    if path.suffix.lower() == ".npz":
        refuse_special(path)
        log.info("compressing %s samples", f"{len(images):,}")
        arrays: dict[str, Any] = {"images": images}
        if selection.labels:
            arrays["labels"] = selection.labels[0].numpy()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        return write_output(path, buffer.getvalue())
    for name, image in zip(selection.names_with_class(), images, strict=True):
        buffer = io.BytesIO()
        if image.dtype == np.uint8 and image.shape[2] in (1, 3):
            Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0]).save(buffer, "PNG")
        else:
            buffer.write(encode(image))  # as in a shard: see `data/reading/png.py`
        write_output(path / f"{name}.png", buffer.getvalue())
    return path


def refuse_wrong_output(path: Path) -> None:
    """Raise `GanscaleError` if a path is neither an .npz file nor a folder."""
    if path.suffix.lower() == ".npz" or path.is_dir():
        return
    refuse_special(path)
    if path.suffix or path.exists():
        raise GanscaleError(
            f"--out {path}: must be FILE.npz, or a folder for PNG files (a new name without a dot, "
            "or an existing folder)"
        )


def save_selection_grid(images: Pixels, selection: Selection, path: Path) -> Path:
    """Write a grid of the samples as a PNG file."""
    images = show(images)
    if selection.has_corner:
        images = np.concatenate([np.full_like(images[:1], BORDER_GREY), images])
    return save_grid(images, path, selection.columns)
