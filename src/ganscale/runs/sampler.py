"""`ganscale sample`: generate images from a run's checkpoint on one device."""

import io
import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganscale import devices, randomness
from ganscale.config import Experiment
from ganscale.data.reading.png import Pixels
from ganscale.errors import GanscaleError
from ganscale.evaluation.samples import pixels
from ganscale.files import refuse_special, write_output
from ganscale.gan.sampling import (
    generate,
    images_of,
    interpolation,
    refuse_unknown_class,
    sample_labels,
    seed_labels,
)
from ganscale.gan.truncation import has_batch_norm, truncate, with_truncated_statistics
from ganscale.monitoring.grids import grid
from ganscale.monitoring.pictures import columns_of_classes, save_grid
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

    A conditional generator generates all its classes in turn, or only `label`. `truncation` limits
    the numbers of latents: see `ganscale.gan.truncation`. `trust_code` allows the code that the
    experiment names to run even if this user has not trained the run.
    """

    def __init__(
        self,
        run: str | Path,
        name: str,
        network: str = "ema",
        seed: int = 0,
        label: int | None = None,
        trust_code: bool = False,
        truncation: float | None = None,
    ):
        self.folder = RunFolder(run)
        self.experiment: Experiment = self.folder.experiment()
        self.folder.refuse_links()
        self.checkpoint = self.folder.find_checkpoint(name, self.experiment.evaluation)
        self.device = devices.best_device()
        self.seed = seed
        self.classes = self.experiment.data.classes
        self.bits = self.experiment.data.bits
        refuse_unknown_class(label, self.classes)
        self.label = label
        if not trust_code:
            refuse_foreign_code(self.folder.path, self.experiment)
        self.generator = first_generator(self.experiment)
        with checkpoint.explain_mismatch(self.checkpoint):
            weights = checkpoint.read_weights(self.checkpoint, network)
            self.generator.load_state_dict(weights)
        self.generator.to(self.device).eval()
        self.truncation = truncation
        if truncation is not None and has_batch_norm(self.generator):
            log.info("computing BatchNorm's statistics over latents truncated at %g", truncation)
            self.generator = with_truncated_statistics(
                self.generator, self.experiment.latent, self.classes, truncation, self.device
            )

    @property
    def cycles_classes(self) -> bool:
        """True if samples have the generator's classes in turn."""
        return self.classes is not None and self.label is None

    def batches(self, number: int, batch_size: int = 500) -> Iterator[Tensor]:
        """Yield samples 0 … `number` - 1 of the seed, in batches (N, C, H, W) of the set's bits."""
        return generate(
            self.generator, self.latents, self.labels, range(number), batch_size, self.bits
        )

    def latents(self, rows: range) -> Tensor:
        """Return the latents (len(rows), dim) of these samples."""
        return self._draw(self.seed, "sample", rows)

    def seed_latents(self, seeds: Sequence[int]) -> Tensor:
        """Return the latent of sample 0 of each seed: (len(seeds), dim)."""
        return torch.cat([self._draw(seed, "sample", range(1)) for seed in seeds])

    def _draw(self, seed: int, purpose: str, rows: range) -> Tensor:
        latent = self.experiment.latent
        drawn = randomness.latents(latent, seed, purpose, 0, rows, self.device)
        return truncate(drawn, self.truncation, latent.distribution)

    def labels(self, rows: range) -> tuple[Tensor, ...]:
        """Return the classes of these samples; no arguments for an unconditional generator."""
        return sample_labels(rows, self.classes, self.label)

    def images(self, number: int) -> Pixels:
        """Return the first samples, uint8 or uint16 (N, H, W, C), showing the progress."""
        batches = tracked(self.batches(number), number, "generating samples", len)
        return pixels(torch.cat(list(batches)))

    def save_grid(self, number: int, path: Path) -> Path:
        """Write a grid of the first samples; a column of it holds one class, if there are any."""
        columns = columns_of_classes(number, self.classes if self.cycles_classes else None)
        return save_grid(self.images(number), path, columns)

    def save_interpolation(self, path: Path, seeds: Sequence[int] = ()) -> Path:
        """Write images along paths between latents: rows of a PNG, or a looping GIF.

        With `seeds`, the path leads from each seed's sample to the next one's, in the class of the
        first: a row of a PNG for each two neighbours, or a GIF of one image.
        """
        refuse_special(path)
        is_loop = path.suffix.lower() == ".gif"
        if not is_loop and path.suffix.lower() != ".png":
            raise GanscaleError(f"{path}: an interpolation must be a .png or .gif file")
        if seeds:
            steps = self._between(self._stations_of_seeds(seeds, is_loop))
            labels = seed_labels([seeds[0]] * len(steps[0]), self.classes, self.label)
        else:
            steps = self._between(self._stations(is_loop))
            labels = self.labels(range(INTERPOLATION_PATHS))
        frames = torch.stack(
            [
                images_of(self.generator, z, labels, self.bits)
                for z in tracked(steps, len(steps), "interpolating between latents")
            ]
        )
        if is_loop:
            pictures = [grid(pixels(frame)) for frame in frames]
            buffer = io.BytesIO()
            options: dict[str, Any] = {"duration": GIF_FRAME_MS, "loop": 0, "save_all": True}
            pictures[0].save(buffer, "GIF", append_images=pictures[1:], **options)
            return write_output(path, buffer.getvalue())
        rows = pixels(frames.transpose(0, 1).flatten(0, 1))
        return save_grid(rows, path, columns=len(frames))

    def _stations(self, is_loop: bool) -> Tensor:
        """Return the latents that paths pass through: (stations, paths, dim)."""
        ends = 4 if is_loop else 2
        rows = self._draw(self.seed, "interpolation", range(ends * INTERPOLATION_PATHS))
        stations = rows.view(ends, INTERPOLATION_PATHS, -1)
        return torch.cat([stations, stations[:1]]) if is_loop else stations

    def _stations_of_seeds(self, seeds: Sequence[int], is_loop: bool) -> Tensor:
        """Return one path through all seeds and back, or a path for each two neighbours."""
        latents = self.seed_latents(seeds)
        if is_loop:
            return torch.cat([latents, latents[:1]])[:, None]
        return torch.stack([latents[:-1], latents[1:]])

    def _between(self, stations: Tensor) -> list[Tensor]:
        """Return the latents (paths, dim) of each frame on the way through the stations."""
        fractions = torch.linspace(0, 1, INTERPOLATION_STEPS, device=self.device)
        between = interpolation(self.experiment.latent.distribution)
        return [between(a, b, t) for a, b in itertools.pairwise(stations) for t in fractions]
