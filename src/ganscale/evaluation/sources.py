"""What an evaluation measures features from: the generator, the real images, and the ranks."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Reader
from ganscale.engines.distributed import Ranks
from ganscale.evaluation.feature_cache import Cache
from ganscale.evaluation.features.network import FeatureNetwork
from ganscale.evaluation.samples import drawn_labels
from ganscale.gan.sampling import generate


@dataclass(frozen=True)
class Sources:
    """The sources of a comparison's features, for metrics that need more than the features."""

    experiment: Experiment
    generator: nn.Module
    network: FeatureNetwork
    images: ImageSet
    """The real dataset."""
    reader: Reader
    """Reads any real image, given its number."""
    class_weights: Tensor
    """How often training draws each class, (classes,), float64; (0,) without classes."""
    cache: Cache
    """Keeps what depends on the real dataset alone."""
    device: torch.device
    ranks: Ranks

    def share(self, total: int, size: int) -> range:
        """Return this rank's rows of `total`, in whole batches of `size` but for the last one.

        So every image is computed in the same batch, and with the same rounding, on any number of
        ranks.
        """
        batches = -(-total // size)
        rows = -(-batches // self.ranks.world_size) * size
        first = min(self.ranks.rank * rows, total)
        return range(first, min(first + rows, total))

    def latents(self, rows: range, purpose: str = "evaluation", step: int = 0) -> Tensor:
        """Return the latents of some samples: (len(rows), dim)."""
        latent, seed = self.experiment.latent, self.experiment.seed
        return randomness.latents(latent, seed, purpose, step, rows, self.device)

    def labels(self, rows: range) -> tuple[Tensor, ...]:
        """Return the classes of some samples, with the frequencies that training has.

        They are the arguments of a conditional generator; another one gets none.
        """
        if self.experiment.data.classes is None:
            return ()
        shares, seed = self.class_weights, self.experiment.seed
        return (drawn_labels(shares, seed, "evaluation labels", 0, rows, self.device),)

    def generated(self, rows: range) -> Iterator[Tensor]:
        """Yield the samples of these numbers, in batches of `evaluation.batch_size` pixels.

        Raises `NotFiniteError` if a pixel is NaN or infinite.
        """
        batch_size, bits = self.experiment.evaluation.batch_size, self.experiment.data.bits
        return generate(self.generator, self.latents, self.labels, rows, batch_size, bits)
