"""The game: what the discriminator minimises, and what the generator minimises.

Both functions take callables and tensors, and return a scalar loss and what they measured. Images
have shape (N, C, H, W) and values in [-1, 1]; latents (N, dim); labels are empty, or the images'
classes (N,) in a class-conditional game; logits have shape (N,), and a positive one means "real".
Generated images are paired with the real ones in their rows, and have their classes.
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
Augment = Callable[[Tensor, str], Tensor]
"""Images and what they are, to what the discriminator sees of them; differentiable."""
Draw = Callable[[str, tuple[int, ...]], Tensor]
"""A purpose and a shape to uniform numbers in [0, 1] for each image: (N, *shape)."""
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
    real_target: float = 1.0
    """The discriminator's target for real images: less than 1 where labels are smoothed."""
    penalties: Sequence[WeightedPenalty] = ()
    one_batch: bool = False
    """Judge real and generated images in one batch: for networks that do not mix images."""


def discriminator_loss(
    objective: Objective,
    generator: Network,
    discriminator: Network,
    augment: Augment,
    samples: Samples,
    draw: Draw,
    penalized: Network,
) -> tuple[Tensor, Measured]:
    """Return the discriminator's loss: tell real images from generated ones, with small gradients.

    No graph leads through the generator. `penalized` is the discriminator as the penalties
    differentiate it, in full precision.
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
    """Return the generator's loss: make images that the discriminator takes for real.

    The discriminator's parameters are frozen: the loss is differentiated through it, not by it.
    """
    latents, real, labels = samples
    real_logits = None
    if objective.loss.paired:
        with torch.no_grad():
            real_logits = discriminator(augment(real, "real of generator"), *labels)
    fake = augment(generator(latents, *labels), "fake of generator")
    loss = objective.loss.generator(discriminator(fake, *labels), real_logits)
    return loss, {"loss": loss.detach()}
