"""What the discriminator sees of an image: how strongly it is augmented, and how noisy it is.

Draws, and the numbers of schedules, are functions of the step; the only state is the probability
that ADA steers.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.config.schedules import first_value
from ganscale.engines import distributed
from ganscale.gan.augment import TRANSFORMS, augment
from ganscale.gan.schedules import value_at


class Strength(NamedTuple):
    """How much is changed: numbers, or 0-dimensional tensors on the device."""

    probability: float | Tensor
    """Probability that a transformation is applied to an image."""
    noise_std: float | Tensor
    """Standard deviation of the noise."""


class Augmentation:
    """Called on images, it returns what the discriminator sees instead."""

    def __init__(self, experiment: Experiment, device: torch.device):
        self._options = experiment.augment
        self._policy = [TRANSFORMS.get(name) for name in experiment.augment.policy]
        self._seed = experiment.seed
        self._batch_size = experiment.train.batch_size
        self._device = device
        self._pace = experiment.pace
        self.probability = first_value(self._options.probability)
        self._noise_std = first_value(self._options.noise_std)
        self._is_noisy = self._options.noise_std != 0
        self._signs: list[Tensor] = []

    @property
    def is_adaptive(self) -> bool:
        """True if the probability moves."""
        return self._options.adaptive is not None

    @property
    def strength(self) -> Strength:
        """What holds in this step."""
        return Strength(self.probability, self._noise_std)

    def begin(self, step: int) -> None:
        """Set the numbers of a step of the game, which may have several updates."""
        self._noise_std = value_at(self._options.noise_std, step, self._pace)
        if not self.is_adaptive:
            self.probability = value_at(self._options.probability, step, self._pace)

    def __call__(
        self,
        images: Tensor,
        purpose: str,
        update: int | Tensor,
        rows: range,
        strength: Strength,
    ) -> Tensor:
        """Return images (N, C, H, W) of these rows of the global batch, differentiably changed.

        `purpose` gives real images other draws than generated ones.
        """
        if self._policy:
            draws = randomness.Draws(self._seed, update, rows, images.device)
            draw = partial(draws, f"augment/{purpose}")
            images = augment(images, self._policy, strength.probability, draw)
        if self._is_noisy:
            shape = tuple(images.shape[1:])
            purpose, device = f"noise/{purpose}", images.device
            noise = randomness.normal(self._seed, purpose, update, rows, shape, device)
            images = images + strength.noise_std * noise
        return images

    def observe(self, real_logits: Tensor) -> None:
        """Note how sure the discriminator is of real images (r_t of ADA)."""
        if self._options.adaptive is not None:
            self._signs.append(real_logits.detach().float().sign().mean())

    def adjust(self, step: int) -> None:
        """Move the probability, after `step` steps, to bring the mean sign towards the target.

        Every rank calls it. Karras et al. 2020, section 3.1: a fixed amount up or down.
        """
        adaptive = self._options.adaptive
        if adaptive is None or step % adaptive.every:
            return
        mean = self._signs_of_all_ranks().mean()
        self._signs.clear()
        amount = adaptive.every * self._batch_size / adaptive.images
        direction = 1 if float(mean) > adaptive.target else -1
        self.probability = min(1.0, max(0.0, self.probability + direction * amount))

    def _signs_of_all_ranks(self) -> Tensor:
        return distributed.average_over_ranks(torch.stack(self._signs))

    def state(self) -> dict[str, Any]:
        """Return what a later step depends on; every rank calls it."""
        if not self.is_adaptive:
            return {}
        signs = self._signs_of_all_ranks().tolist() if self._signs else []
        return {"probability": self.probability, "signs": signs}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned; without ADA there is nothing to load."""
        if not self.is_adaptive:
            return
        self.probability = state["probability"]
        self._signs = [torch.tensor(s, device=self._device) for s in state["signs"]]
