"""Gradient penalties: how steep the discriminator may be, and where.

To add a penalty, derive a class from `Penalty` here and register it, or name a class in a file of
your own in the experiment: `objective.penalties: [{kind: my_penalties.py:Mine, weight: 1}]`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ganscale.config import PenaltyOptions
from ganscale.gan.judging import Side, differentiate
from ganscale.registry import Registry, call, is_subclass_of

Discriminator = Callable[[Tensor], Tensor]
Uniform = Callable[[tuple[int, ...]], Tensor]


class Penalty(ABC):
    """A term of the discriminator's loss. The constructor takes the penalty's own options."""

    of_each_image_alone: ClassVar[bool] = False
    """True if it is not defined for a discriminator that mixes images, as BatchNorm does."""

    @abstractmethod
    def __call__(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform
    ) -> Tensor:
        """Return a scalar: the mean over the batch, before the weight.

        `discriminator` takes images (N, C, H, W) and returns logits (N,); `real` and `fake` are
        images. `random(shape)` returns uniform numbers in [0, 1) of shape (N, *shape), the same
        for each image however the batch is divided.
        """


PENALTIES = Registry[type[Penalty]](
    "penalty",
    "ganscale.penalties",
    wanted="a class derived from ganscale.gan.penalties.Penalty that defines __call__",
    accepts=is_subclass_of(Penalty),
)


def build_penalty(options: PenaltyOptions) -> Penalty:
    """Return the penalty that the experiment asks for, with its own options."""
    penalty = PENALTIES.get(options.kind)
    return call(f"penalty {options.kind}", penalty, options.arguments())


def input_gradient(discriminator: Discriminator, images: Tensor) -> Tensor:
    """Return the gradient of each logit by its image, (N, C·H·W), itself differentiable."""
    _, gradient = differentiate(discriminator, images)
    return gradient


def distance_from_one(gradient: Tensor) -> Tensor:
    """Return the mean squared difference of the gradients' L2 norms from 1."""
    norms: Tensor = torch.linalg.vector_norm(gradient, dim=1)
    return (norms - 1).square().mean()


class PointPenalty(Penalty):
    """A penalty at the very images that the loss judges: it can share the loss's forward pass."""

    side: ClassVar[Side]
    """The images that it is taken at."""

    @abstractmethod
    def of_gradient(self, gradient: Tensor) -> Tensor:
        """Return the penalty, a scalar, of the logits' gradients by the images, (N, C·H·W)."""

    def __call__(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform
    ) -> Tensor:
        """Return the penalty, with a forward pass of its own."""
        return self.of_gradient(
            input_gradient(discriminator, real if self.side == "real" else fake)
        )


class ZeroCentredPenalty(PointPenalty):
    """½E‖∇D‖² at the images of one side."""

    def of_gradient(self, gradient: Tensor) -> Tensor:
        """Return half the mean squared L2 norm."""
        return 0.5 * gradient.square().sum(1).mean()


@PENALTIES.register("r1")
class R1(ZeroCentredPenalty):
    """½E‖∇D(x)‖² at real images (Mescheder et al. 2018, eq. 9)."""

    side = "real"


@PENALTIES.register("r2")
class R2(ZeroCentredPenalty):
    """½E‖∇D(G(z))‖² at generated images (Mescheder et al. 2018, eq. 10)."""

    side = "fake"


@PENALTIES.register("wgan_gp")
class WassersteinGradientPenalty(Penalty):
    """E(‖∇D(x̂)‖ - 1)² on lines from real to generated images (Gulrajani et al. 2017, eq. 3)."""

    of_each_image_alone = True

    def __call__(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform
    ) -> Tensor:
        """Return the penalty."""
        between = torch.lerp(fake, real, random((1, 1, 1)))
        return distance_from_one(input_gradient(discriminator, between))


@PENALTIES.register("dragan")
class Dragan(Penalty):
    """E(‖∇D(x + δ)‖ - 1)² around real images (Kodali et al. 2017, algorithm 1).

    As in the authors' code, δ is uniform noise of half the real images' standard deviation,
    scaled by one uniform number an image. The deviation is taken over pixel values in [-1, 1] of
    each image alone, so that the penalty of an image does not depend on its batch.
    """

    of_each_image_alone = True

    def __call__(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, random: Uniform
    ) -> Tensor:
        """Return the penalty."""
        deviation = real.flatten(1).std(dim=1)[:, None, None, None]
        noise = 0.5 * deviation * random(tuple(real.shape[1:]))
        near = real + random((1, 1, 1)) * noise
        return distance_from_one(input_gradient(discriminator, near))
