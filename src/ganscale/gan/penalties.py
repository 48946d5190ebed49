"""Gradient penalties: how steep the discriminator may be, and where.

Each takes the discriminator as a function from images (N, C, H, W) to logits (N,), real and made
images, and `random`: a function that returns uniform numbers in [0, 1) of shape (N, *shape), the
same for each image however the batch is divided. Each returns a scalar: the mean over the batch,
before the weight.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]
Uniform = Callable[[tuple[int, ...]], Tensor]
Penalty = Callable[[Discriminator, Tensor, Tensor, Uniform], Tensor]


def _input_gradient(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Gradient of each logit with respect to its image, (N, C·H·W), itself differentiable."""
    images = images.detach().requires_grad_(True)
    logits = discriminator(images)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.flatten(1)


def _distance_from_one(gradient: Tensor) -> Tensor:
    """Mean squared difference of the gradients' L2 norms from 1."""
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=1)
    return (norms - 1).square().mean()


def r1(discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform) -> Tensor:
    """½E‖∇D(x)‖² at real images (Mescheder et al. 2018, eq. 9)."""
    return 0.5 * _input_gradient(discriminator, real).square().sum(1).mean()


def r2(discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform) -> Tensor:
    """½E‖∇D(G(z))‖² at made images (Mescheder et al. 2018, eq. 10)."""
    return 0.5 * _input_gradient(discriminator, fake).square().sum(1).mean()


def wgan_gp(discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform) -> Tensor:
    """E(‖∇D(x̂)‖ - 1)² on lines from real to made images (Gulrajani et al. 2017, eq. 3)."""
    between = torch.lerp(fake, real, random((1, 1, 1)))
    return _distance_from_one(_input_gradient(discriminator, between))


def dragan(discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform) -> Tensor:
    """E(‖∇D(x + δ)‖ - 1)² around real images (Kodali et al. 2017, algorithm 1).

    As in the authors' code, δ is uniform noise of half the real images' standard deviation,
    scaled by one uniform number an image. The deviation is taken over pixel values in [-1, 1] of
    each image alone, so that the penalty of an image does not depend on its batch.
    """
    deviation = real.flatten(1).std(dim=1)[:, None, None, None]
    noise = 0.5 * deviation * random(tuple(real.shape[1:]))
    near = real + random((1, 1, 1)) * noise
    return _distance_from_one(_input_gradient(discriminator, near))


PENALTIES: dict[str, Penalty] = {"r1": r1, "r2": r2, "wgan_gp": wgan_gp, "dragan": dragan}
