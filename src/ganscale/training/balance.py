"""Measures how well the discriminator does on images that it was not trained on."""

import numpy as np
import torch
from torch import Tensor

from ganscale import randomness
from ganscale.config import Balance, Experiment
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Batch
from ganscale.engines.distributed import Ranks, all_reduce
from ganscale.errors import GanscaleError
from ganscale.gan.sampling import from_pixels
from ganscale.training.model import GANModel

CHUNK = 250  # images judged at once


class HeldOut:
    """This rank's part of some held-out real images, which the discriminator judges."""

    def __init__(self, experiment: Experiment, balance: Balance, model: GANModel, ranks: Ranks):
        self._experiment = experiment
        self._ranks = ranks
        self._model = model
        self.every = balance.every
        """Steps between two measurements."""
        data = experiment.held_out
        assert data is not None, "the caller has a balance"
        images = ImageSet(data)
        if images.samples < ranks.world_size:
            raise GanscaleError(
                f"balance.held_out={balance.held_out} holds {images.samples} images, fewer than "
                "there are processes",
                every_rank=True,
            )
        number = min(balance.images, images.samples) // ranks.world_size * ranks.world_size
        chosen = np.linspace(0, images.samples, number, endpoint=False).astype(np.int64)
        part = number // ranks.world_size
        self._rows = range(ranks.rank * part, (ranks.rank + 1) * part)
        self._real: Batch = images.reader().read(chosen[self._rows.start : self._rows.stop])

    @classmethod
    def of(cls, experiment: Experiment, model: GANModel, ranks: Ranks) -> "HeldOut | None":
        """Return what the experiment's `balance` names; None if it is off."""
        balance = experiment.balance
        return cls(experiment, balance, model, ranks) if balance is not None else None

    @torch.no_grad()
    def accuracy(self, step: int) -> float:
        """Return the share of real-generated pairs whose real image gets the higher logit."""
        model, device = self._model, self._model.device
        networks = (model.generator.module, model.discriminator.module)
        # BatchNorm and spectral norm change their buffers at each forward: they are put back.
        kept = [(b, b.clone()) for network in networks for b in network.buffers()]
        told_apart: list[Tensor] = []
        with model.generator.gathered_weights(), model.discriminator.gathered_weights():
            for start in range(0, len(self._real.images), CHUNK):
                images, labels = (part[start : start + CHUNK].to(device) for part in self._real)
                first = self._rows.start + start
                latents = randomness.latents(
                    self._experiment.latent,
                    self._experiment.seed,
                    "balance",
                    step,
                    range(first, first + len(images)),
                    device,
                )
                classes = (labels,) if self._experiment.data.classes is not None else ()
                fake = networks[0](latents, *classes)
                real = networks[1](from_pixels(images), *classes)
                told_apart.append((real > networks[1](fake, *classes)).sum())
        for buffer, value in kept:
            buffer.copy_(value)
        # Counted: a mean of the ranks' means could miss an end of the band by its last bit.
        count = all_reduce(torch.stack(told_apart).sum())
        return int(count) / (len(self._real.images) * self._ranks.world_size)
