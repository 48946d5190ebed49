"""Adversarial losses on logits, each the mean over a batch of what its player minimises.

D(x) below is the sigmoid of the logit; `softplus(-l)` is -log D and `softplus(l)` is
-log(1 - D), computed without the overflow of a sigmoid followed by a logarithm.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """What the two players minimise.

    `discriminator(real_logits, fake_logits, real_target)` and `generator(fake_logits,
    real_logits)` return scalars; logits have shape (N,). `real_target` is 1, or less where labels
    are smoothed (Salimans et al. 2016, section 3.4); losses without a target take no notice of
    it. `paired`: the generator's loss looks at real logits too.
    """

    discriminator: Callable[[Tensor, Tensor, float], Tensor]
    generator: Callable[[Tensor, Tensor | None], Tensor]
    paired: bool = False


def _cross_entropy(real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    """-E[t log D(x) + (1 - t) log(1 - D(x))] - E log(1 - D(G(z))) (Goodfellow 2014, eq. 1; t=1)."""
    on_real = F.softplus(-real) if target == 1 else F.softplus(real) - target * real
    return on_real.mean() + F.softplus(fake).mean()


def _minimax_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """E log(1 - D(G(z))): the generator's side of eq. 1, weak where D is sure."""
    return -F.softplus(fake).mean()


def _non_saturating_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """-E log D(G(z)) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake).mean()


def _least_squares_discriminator(real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    """½E(D(x) - t)² + ½E D(G(z))², D the raw output (Mao et al. 2017, eq. 9: a=0, b=c=t=1)."""
    return 0.5 * (real - target).square().mean() + 0.5 * fake.square().mean()


def _least_squares_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """½E(D(G(z)) - 1)² (Mao et al. 2017, eq. 9)."""
    return 0.5 * (fake - 1).square().mean()


def _wasserstein_discriminator(real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    """E D(G(z)) - E D(x): minus the critic's estimate (Arjovsky et al. 2017, eq. 3)."""
    return fake.mean() - real.mean()


def _wasserstein_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """-E D(G(z)), which hinge shares (Lim & Ye 2017; Miyato et al. 2018)."""
    return -fake.mean()


def _hinge_discriminator(real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Lim & Ye 2017; Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def _relativistic_discriminator(real: Tensor, fake: Tensor, target: float = 1.0) -> Tensor:
    """E softplus(-(D(x) - D(G(z)))) over pairs: RpGAN (Jolicoeur-Martineau 2018; R3GAN 2024)."""
    return F.softplus(fake - real).mean()


def _relativistic_generator(fake: Tensor, real: Tensor | None = None) -> Tensor:
    """E softplus(-(D(G(z)) - D(x))) over pairs: the discriminator's loss with sides changed."""
    if real is None:
        raise ValueError("the relativistic loss pairs each made image with a real one")
    return F.softplus(real - fake).mean()


LOSSES = {
    "minimax": Loss(_cross_entropy, _minimax_generator),
    "non_saturating": Loss(_cross_entropy, _non_saturating_generator),
    "least_squares": Loss(_least_squares_discriminator, _least_squares_generator),
    "wasserstein": Loss(_wasserstein_discriminator, _wasserstein_generator),
    "hinge": Loss(_hinge_discriminator, _wasserstein_generator),
    "relativistic": Loss(_relativistic_discriminator, _relativistic_generator, paired=True),
}
