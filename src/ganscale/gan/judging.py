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
        logits, slopes = _judge(discriminator, images, twice, bool(differentiated))
        real_logits, fake_logits = logits.chunk(2)
        of_real, of_fake = (None, None) if slopes is None else slopes.chunk(2)
    else:
        real_logits, of_real = _judge(discriminator, real, labels, "real" in differentiated)
        fake_logits, of_fake = _judge(discriminator, fake, labels, "fake" in differentiated)
    found: dict[Side, Tensor | None] = {"real": of_real, "fake": of_fake}
    gradients = {side: gradient for side, gradient in found.items() if gradient is not None}
    return real_logits, fake_logits, gradients


def _judge(
    discriminator: Callable[..., Tensor],
    images: Tensor,
    labels: Sequence[Tensor],
    differentiated: bool,
) -> tuple[Tensor, Tensor | None]:
    if differentiated:
        return differentiate(discriminator, images, labels)
    return discriminator(images, *labels), None


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
