"""`ganscale sample`: generate images from a run's checkpoint on one device."""

import io
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.errors import GanscaleError
from ganscale.evaluation.samples import pixels
from ganscale.files import refuse_special, write_output
from ganscale.gan.sampling import (
    generate,
    images_of,
    interpolation,
    refuse_unknown_class,
    sample_labels,
)
from ganscale.monitoring.pictures import grid, save_grid
from ganscale.monitoring.progress import tracked
from ganscale.networks import first_generator
from ganscale.runs import checkpoint
from ganscale.runs.run_folder import RunFolder
from ganscale.runs.trust import refuse_foreign_code

INTERPOLATION_STEPS = 12
INTERPOLATION_PATHS = 6
GIF_FRAME_MS = 80

log = logging.getLogger("ganscale")


class Sampler:
    """The generator of a checkpoint, in evaluation mode.

    A conditional generator generates all its classes in turn, or only `label`. `trust_code` allows
    the code that the experiment names to run even if this user has not trained the run.
    """

    def __init__(
        self,
        run: str | Path,
        name: str,
        network: str = "ema",
        seed: int = 0,
        label: int | None = None,
        trust_code: bool = False,
    ):
        self.folder = RunFolder(run)
        self.experiment: Experiment = self.folder.experiment()
        self.folder.refuse_links()
        self.checkpoint = self.folder.find_checkpoint(name, self.experiment.evaluation)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.seed = seed
        self.classes = self.experiment.data.classes
        refuse_unknown_class(label, self.classes)
        self._label = label
        if not trust_code:
            refuse_foreign_code(self.folder.path, self.experiment)
        self.generator = first_generator(self.experiment)
        with checkpoint.explain_mismatch(self.checkpoint):
            weights = checkpoint.read_weights(self.checkpoint, network)
            self.generator.load_state_dict(weights)
        self.generator.to(self.device).eval()

    def batches(self, number: int, batch_size: int = 500) -> Iterator[Tensor]:
        """Yield samples 0 … `number` - 1 of the seed, in uint8 batches (N, C, H, W)."""
        return generate(self.generator, self.latents, self.labels, range(number), batch_size)

    def latents(self, rows: range) -> Tensor:
        """Return the latents (len(rows), dim) of these samples."""
        latent = self.experiment.latent
        return randomness.latents(latent, self.seed, "sample", 0, rows, self.device)

    def labels(self, rows: range) -> tuple[Tensor, ...]:
        """Return the classes of these samples; no arguments for an unconditional generator."""
        return sample_labels(rows, self.classes, self._label)

    def images(self, number: int) -> NDArray[np.uint8]:
        """Return the first samples, uint8 (N, H, W, C), showing the progress meanwhile."""
        batches = tracked(self.batches(number), number, "generating samples", len)
        return pixels(torch.cat(list(batches)))

    def save_npz(self, number: int, path: Path) -> Path:
        """Write samples into a .npz file as `images`, uint8 (N, H, W, C)."""
        refuse_special(path)
        images = self.images(number)
        log.info("compressing %s samples", f"{number:,}")
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images)
        return write_output(path, buffer.getvalue())

    def save_grid(self, number: int, path: Path) -> Path:
        """Write a grid of the first samples, with a column per class of a conditional generator."""
        columns = self.classes if self._label is None else None
        return save_grid(self.images(number), path, columns)

    def save_interpolation(self, path: Path) -> Path:
        """Write images along paths between latents: rows of a PNG, or a looping GIF."""
        refuse_special(path)
        steps = self._latent_path(path)
        frames = torch.stack(
            [
                images_of(self.generator, z, self.labels(range(len(z))))
                for z in tracked(steps, len(steps), "interpolating between latents")
            ]
        )
        if path.suffix.lower() == ".gif":
            pictures = [grid(pixels(frame)) for frame in frames]
            buffer = io.BytesIO()
            options: dict[str, Any] = {"duration": GIF_FRAME_MS, "loop": 0, "save_all": True}
            pictures[0].save(buffer, "GIF", append_images=pictures[1:], **options)
            return write_output(path, buffer.getvalue())
        if path.suffix.lower() != ".png":
            raise GanscaleError(f"{path}: an interpolation must be a .png or .gif file")
        rows = pixels(frames.transpose(0, 1).flatten(0, 1))
        return save_grid(rows, path, columns=len(frames))

    def _latent_path(self, path: Path) -> list[Tensor]:
        """Return latents (paths, dim) for each frame; those of a GIF return to the start."""
        ends = 4 if path.suffix.lower() == ".gif" else 2
        number = ends * INTERPOLATION_PATHS
        rows = randomness.latents(
            self.experiment.latent, self.seed, "interpolation", 0, range(number), self.device
        ).view(ends, INTERPOLATION_PATHS, -1)
        if ends > 2:
            rows = torch.cat([rows, rows[:1]])
        fractions = torch.linspace(0, 1, INTERPOLATION_STEPS, device=self.device)
        between = interpolation(self.experiment.latent.distribution)
        return [between(a, b, t) for a, b in itertools.pairwise(rows) for t in fractions]
