"""Adversarial losses on logits, each the mean over a batch of what its player minimises.

D(x) below is the sigmoid of the logit; `softplus(-l)` is -log D and `softplus(l)` is
-log(1 - D), computed without the overflow of a sigmoid followed by a logarithm.

To add a loss, derive a class from `Loss` here and register it, or name a class in a file of your
own in the experiment: `objective.loss: my_losses.py:MyLoss`.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from ganscale.errors import GanscaleError
from ganscale.registry import Registry, is_subclass_of


class Loss(ABC):
    """What the two players minimise; both methods take logits (N,) and return a scalar."""

    paired: ClassVar[bool] = False
    """True if the generator's loss looks at real logits too."""
    has_target: ClassVar[bool] = False
    """True if real images have a target, which label smoothing may move."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
        """Return the discriminator's loss.

        `target` is 1, or less where labels are smoothed (Salimans et al. 2016, section 3.4); a
        loss without a target takes no notice of it.
        """

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the generator's loss; `real` is given where the loss is `paired`."""


LOSSES = Registry[type[Loss]](
    "loss",
    "ganscale.losses",
    wanted="a class derived from ganscale.gan.losses.Loss that defines both methods",
    accepts=is_subclass_of(Loss),
)


def build_loss(name: str, label_smoothing: float = 0.0) -> Loss:
    """Return the loss of that name; raise `GanscaleError` where it has no target to smooth."""
    loss = LOSSES.get(name)()
    if label_smoothing and not loss.has_target:
        raise GanscaleError(
            f"objective.label_smoothing={label_smoothing}: the loss {name} has no target to smooth",
            every_rank=True,
        )
    return loss


class CrossEntropy(Loss):
    """The discriminator's side of the original GAN, which several generators share."""

    has_target = True

    def discriminator(self, real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
        """-E[t log D(x) + (1-t) log(1-D(x))] - E log(1-D(G(z))) (Goodfellow 2014, eq. 1; t=1)."""
        on_real = F.softplus(-real) if target == 1 else F.softplus(real) - target * real
        return on_real.mean() + F.softplus(fake).mean()


@LOSSES.register("minimax")
class Minimax(CrossEntropy):
    """The original game (Goodfellow et al. 2014)."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """E log(1 - D(G(z))): the generator's side of eq. 1, weak where D is sure."""
        return -F.softplus(fake).mean()


@LOSSES.register("non_saturating")
class NonSaturating(CrossEntropy):
    """The generator's loss that the same paper trains with."""

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """-E log D(G(z)) (Goodfellow et al. 2014, section 3)."""
        return F.softplus(-fake).mean()


@LOSSES.register("least_squares")
class LeastSquares(Loss):
    """LSGAN (Mao et al. 2017, eq. 9: a=0, b=c=t=1); D is the raw output."""

    has_target = True

    def discriminator(self, real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
        """½E(D(x) - t)² + ½E D(G(z))²."""
        return 0.5 * (real - target).square().mean() + 0.5 * fake.square().mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """½E(D(G(z)) - 1)²."""
        return 0.5 * (fake - 1).square().mean()


@LOSSES.register("wasserstein")
class Wasserstein(Loss):
    """WGAN (Arjovsky et al. 2017)."""

    def discriminator(self, real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
        """E D(G(z)) - E D(x): minus the critic's estimate (eq. 3)."""
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """-E D(G(z))."""
        return -fake.mean()


@LOSSES.register("hinge")
class Hinge(Wasserstein):
    """The hinge loss (Lim & Ye 2017; Miyato et al. 2018); its generator is the Wasserstein one."""

    def discriminator(self, real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
        """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Miyato et al. 2018, eq. 16)."""
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


@LOSSES.register("relativistic")
class Relativistic(Loss):
    """RpGAN, over pairs of a real and a generated image (Jolicoeur-Martineau 2018; R3GAN 2024)."""

    paired = True

    def discriminator(self, real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
        """E softplus(-(D(x) - D(G(z))))."""
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """E softplus(-(D(G(z)) - D(x))): the discriminator's loss with the sides changed."""
        if real is None:
            raise ValueError("the relativistic loss pairs each generated image with a real one")
        return F.softplus(real - fake).mean()
