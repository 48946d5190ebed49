"""The game: what the discriminator minimises, and what the generator minimises.

Both functions take callables and tensors, and return a scalar loss and what they measured. Images
have shape (N, C, H, W) and values in [-1, 1]; latents (N, dim); labels are empty, or the images'
classes (N,) in a class-conditional game; logits have shape (N,), and a positive one means "real".
The i-th generated image is paired with the i-th real one and shares its class.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ganscale.gan.losses import Loss
from ganscale.gan.penalties import Penalty

Network = Callable[..., Tensor]
Augment = Callable[[Tensor, str], Tensor]  # images and a purpose → what the discriminator sees
Draw = Callable[[str, tuple[int, ...]], Tensor]  # purpose, shape → uniform numbers (N, *shape)
Measured = dict[str, Tensor]


class Samples(NamedTuple):
    """The real images of a micro-batch, and the latents of as many generated ones."""

    latents: Tensor
    real: Tensor
    labels: tuple[Tensor, ...] = ()


class WeightedPenalty(NamedTuple):
    """A gradient penalty that is due in this update."""

    name: str
    penalty: Penalty
    weight: float


@dataclass(frozen=True)
class Objective:
    """What both players minimise in one update."""

    loss: Loss
    real_target: float = 1.0  # D's target for real images; below 1 with label smoothing
    penalties: Sequence[WeightedPenalty] = ()
    one_batch: bool = False  # one pass for real and generated images: only if D mixes no images


def discriminator_loss(
    objective: Objective,
    generator: Network,
    discriminator: Network,
    augment: Augment,
    samples: Samples,
    draw: Draw,
    penalized: Network,
) -> tuple[Tensor, Measured]:
    """Return the discriminator's loss: tell real images from generated ones, plus penalties.

    No gradient reaches the generator. `penalized` is the discriminator in full precision.
    """
    latents, real, labels = samples
    with torch.no_grad():
        fake = generator(latents, *labels)
    real, fake = augment(real, "real"), augment(fake, "fake")
    if objective.one_batch:
        twice = (label.repeat(2) for label in labels)
        real_logits, fake_logits = discriminator(torch.cat([real, fake]), *twice).chunk(2)
    else:
        real_logits, fake_logits = discriminator(real, *labels), discriminator(fake, *labels)
    loss = objective.loss.discriminator(real_logits, fake_logits, objective.real_target)
    measured = {"real_logits": real_logits.detach(), "fake_logits": fake_logits.detach()}
    for name, penalty, weight in objective.penalties:
        draw_next = partial(draw, f"penalty/{name}")
        value = penalty(lambda images: penalized(images, *labels), real, fake, draw_next)
        loss = loss + weight * value
        measured[f"penalty/{name}"] = value.detach()
    return loss, measured | {"loss": loss.detach()}


def generator_loss(
    objective: Objective,
    generator: Network,
    discriminator: Network,
    augment: Augment,
    samples: Samples,
) -> tuple[Tensor, Measured]:
    """Return the generator's loss: make images that the frozen discriminator takes for real."""
    latents, real, labels = samples
    real_logits = None
    if objective.loss.paired:
        with torch.no_grad():
            real_logits = discriminator(augment(real, "real of generator"), *labels)
    fake = augment(generator(latents, *labels), "fake of generator")
    loss = objective.loss.generator(discriminator(fake, *labels), real_logits)
    return loss, {"loss": loss.detach()}
