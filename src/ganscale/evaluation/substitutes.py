"""A reader that reads generated images in place of real ones, with the real ones' labels."""

import numpy as np
import torch
from torch import Tensor

from ganscale.data.reading.order import Indices
from ganscale.data.reading.readers import Batch, Reader
from ganscale.evaluation.features.trained import HELD_OUT
from ganscale.evaluation.sources import Sources
from ganscale.gan.sampling import generate_from


class SubstituteReader(Reader):
    """Reads held-out samples as they are, and generates an image of its class for each other one.

    Each read draws latents of its own: a sample that is read again is another image.
    """

    def __init__(self, sources: Sources):
        self._sources = sources
        self._labels = torch.from_numpy(sources.images.labels())
        self._reads = 0

    def read(self, indices: Indices) -> Batch:
        """Return the held-out images of these numbers or, if they are of others, generated ones.

        Raises `NotFiniteError` if a pixel is NaN or infinite.
        """
        if not np.any(indices % HELD_OUT):
            return self._sources.reader.read(indices)
        labels = self._labels[torch.from_numpy(indices)].long()
        images = self._generate(labels.clamp(min=0))  # -1 means no class: its image is not used
        return Batch(images, labels)

    def _generate(self, labels: Tensor) -> Tensor:
        sources, experiment = self._sources, self._sources.experiment
        latents = sources.latents(range(len(labels)), "substitutes", self._reads)
        self._reads += 1
        size, bits = experiment.evaluation.batch_size, experiment.data.bits
        return torch.cat([*generate_from(sources.generator, latents, (labels,), size, bits)])
