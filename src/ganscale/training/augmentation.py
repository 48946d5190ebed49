"""What the discriminator sees of an image: augmented, noisy, and how strongly.

Draws are functions of (seed, purpose, step); the one thing that is state is ADA's probability.
"""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ganscale import randomness
from ganscale.config import Experiment
from ganscale.gan.augment import TRANSFORMS, augment


class Augmentation:
    """Called on images, returns what the discriminator is shown instead."""

    def __init__(self, experiment: Experiment, accelerator: Accelerator):
        self._options = experiment.augment
        self._policy = [TRANSFORMS.get(name) for name in experiment.augment.policy]
        self._seed = experiment.seed
        self._batch_size = experiment.train.batch_size
        self._accelerator = accelerator
        self.probability = self._options.probability
        self._noise_std = 0.0
        self._signs: list[Tensor] = []

    @property
    def is_adaptive(self) -> bool:
        """Whether the probability moves."""
        return self._options.adaptive is not None

    def begin(self, step: int) -> None:
        """Set the instance noise of a step of the game, which may have several updates."""
        noise = self._options.noise
        if noise is not None:
            self._noise_std = noise.std * max(0.0, 1 - step / noise.steps)

    def __call__(self, images: Tensor, purpose: str, step: int, rows: range) -> Tensor:
        """Images (N, C, H, W) of these rows of the global batch, differentiably changed.

        `purpose` sets the draws for real images apart from those for made ones.
        """
        draws = 0

        def random(shape: tuple[int, ...]) -> Tensor:
            nonlocal draws
            draws += 1
            purpose_of_draw = f"augment/{purpose}/{draws}"
            numbers = randomness.uniform(self._seed, purpose_of_draw, step, rows, shape)
            return numbers.to(images.device, non_blocking=True)

        if self._policy:
            images = augment(images, self._policy, self.probability, random)
        if self._noise_std:
            shape = tuple(images.shape[1:])
            noise = randomness.normal(self._seed, f"noise/{purpose}", step, rows, shape)
            images = images + self._noise_std * noise.to(images.device, non_blocking=True)
        return images

    def observe(self, real_logits: Tensor) -> None:
        """Note how sure the discriminator is of real images (ADA's r_t)."""
        if self._options.adaptive is not None:
            self._signs.append(real_logits.detach().float().sign().mean())

    def adjust(self, step: int) -> None:
        """After `step` steps: move the probability towards where the signs meet the target.

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
        mean: Tensor = self._accelerator.reduce(torch.stack(self._signs), "mean")
        return mean

    def state(self) -> dict[str, Any]:
        """What a later step depends on; every rank calls it."""
        signs = self._signs_of_all_ranks().tolist() if self._signs else []
        return {"probability": self.probability, "signs": signs}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up where `state` left off."""
        self.probability = state["probability"]
        self._signs = [torch.tensor(s, device=self._accelerator.device) for s in state["signs"]]
