"""The game: what the discriminator minimises, and what the generator minimises.

Both functions take callables and tensors, and return a scalar loss and what they measured. Images
have shape (N, C, H, W) and values in [-1, 1]; latents (N, dim); labels are empty, or the images'
classes (N,) in a class-conditional game; logits have shape (N,), and a positive one means "real".
The i-th generated image is paired with the i-th real one and shares its class.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ganscale.gan.judging import judge
from ganscale.gan.objective import Network, Objective, SharedPenalty

Augment = Callable[[Tensor, str], Tensor]  # images and a purpose → what the discriminator sees
Draw = Callable[[str, tuple[int, ...]], Tensor]  # purpose, shape → uniform numbers (N, *shape)
Measured = dict[str, Tensor]


class Samples(NamedTuple):
    """The real images of a micro-batch, and the latents of as many generated ones."""

    latents: Tensor
    real: Tensor
    labels: tuple[Tensor, ...] = ()


def discriminator_loss(
    objective: Objective,
    generator: Network,
    discriminator: Network,
    augment: Augment,
    samples: Samples,
    draw: Draw,
) -> tuple[Tensor, Measured]:
    """Return the discriminator's loss: tell real images from generated ones, plus penalties.

    No gradient reaches the generator.
    """
    latents, real, labels = samples
    with torch.no_grad():
        fake = generator(latents, *labels)
    real, fake = augment(real, "real"), augment(fake, "fake")
    sides = {p.penalty.side for p in objective.penalties if isinstance(p, SharedPenalty)}
    one_batch = objective.one_batch
    real_logits, fake_logits, slopes = judge(discriminator, real, fake, labels, one_batch, sides)
    loss = objective.loss.discriminator(real_logits, fake_logits, objective.real_target)
    measured = {"real_logits": real_logits.detach(), "fake_logits": fake_logits.detach()}
    for due in objective.penalties:
        if isinstance(due, SharedPenalty):
            value = due.penalty.of_gradient(slopes[due.penalty.side])
        else:
            judged = partial(_judge, due.discriminator, labels)
            value = due.penalty(judged, real, fake, partial(draw, f"penalty/{due.name}"))
        loss = loss + due.weight * value
        measured[f"penalty_{due.name}"] = value.detach()
    return loss, measured | {"loss": loss.detach()}


def _judge(discriminator: Network, labels: tuple[Tensor, ...], images: Tensor) -> Tensor:
    return discriminator(images, *labels)


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
