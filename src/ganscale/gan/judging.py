"""The discriminator's logits for real and generated images, and their gradients by the images."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import torch
from torch import Tensor

Side = Literal["real", "fake"]


def judge(
    discriminator: Callable[..., Tensor],
    real: Tensor,
    fake: Tensor,
    labels: Sequence[Tensor],
    one_batch: bool,
    differentiated: Collection[Side],
) -> tuple[Tensor, Tensor, dict[Side, Tensor]]:
    """Return the logits of real and of generated images, and the gradients of the sides named.

    A gradient is that of each logit by its image, (N, C·H·W). `one_batch` allows a single pass over
    both sides: only for a discriminator that mixes no images.
    """
    # A gradient costs a pass backwards over the whole batch: one side alone has its own.
    if one_batch and len(differentiated) != 1:
        images, twice = torch.cat([real, fake]), [label.repeat(2) for label in labels]
        if not differentiated:
            real_logits, fake_logits = discriminator(images, *twice).chunk(2)
            return real_logits, fake_logits, {}
        logits, gradient = differentiate(discriminator, images, twice)
        real_logits, fake_logits = logits.chunk(2)
        of_real, of_fake = gradient.chunk(2)
        return real_logits, fake_logits, {"real": of_real, "fake": of_fake}
    logits_of: dict[Side, Tensor] = {}
    gradients: dict[Side, Tensor] = {}
    sides: dict[Side, Tensor] = {"real": real, "fake": fake}
    for side, images in sides.items():
        if side in differentiated:
            logits_of[side], gradients[side] = differentiate(discriminator, images, labels)
        else:
            logits_of[side] = discriminator(images, *labels)
    return logits_of["real"], logits_of["fake"], gradients


def differentiate(
    discriminator: Callable[..., Tensor], images: Tensor, labels: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """Return logits (N,) and the gradient of each by its image, (N, C·H·W).

    Both come of one forward pass, and both can be differentiated again.
    """

    def discriminate(images: Tensor) -> Tensor:
        return discriminator(images, *labels)

    if torch.compiler.is_compiling():
        # The one form that torch.compile takes whole; in eager mode BatchNorm refuses it.
        logits, pull_back, *_ = torch.func.vjp(discriminate, images.detach())
        gradient: Tensor = pull_back(torch.ones_like(logits))[0]
    else:
        images = images.detach().requires_grad_(True)
        logits = discriminate(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return logits, gradient.flatten(1)
