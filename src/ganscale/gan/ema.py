"""The exponential moving average of the generator's weights."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganscale.config import EMA, Pace
from ganscale.gan.schedules import value_at


class MovingAverage:
    """A float32 network that follows another's weights with a half-life in images.

    Early in training the half-life is `ramp_up` times the number of images seen, so that the first
    weights soon lose their influence (as in StyleGAN2-ADA). `average` must have the same weights as
    `followed` at the start.
    """

    def __init__(self, average: nn.Module, followed: nn.Module, ema: EMA, pace: Pace):
        self.network = average.requires_grad_(False).eval()
        self._followed = followed
        self._ema = ema
        self._pace = pace
        self._ours = [p.detach() for p in average.parameters()]
        self._snapshot_is_current = False

    def decay(self, images_seen: int) -> float:
        """Return the weight of the old average in the update that ends at `images_seen` images.

        It is 2^(-batch size / half-life), and 0 for a half-life of 0. A scheduled half-life is
        evaluated at the step that these images belong to.
        """
        batch_size = self._pace.batch_size
        half_life = value_at(self._ema.half_life, images_seen / batch_size - 1, self._pace)
        if self._ema.ramp_up is not None:
            half_life = min(half_life, images_seen * self._ema.ramp_up)
        return float(0.5 ** (batch_size / half_life)) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, images_seen: int) -> None:
        """Move the average one step towards the followed weights."""
        self._snapshot_is_current = False
        theirs: list[Tensor] = list(self._followed.parameters())  # an engine may replace them
        torch._foreach_lerp_(self._ours, theirs, 1 - self.decay(images_seen))

    @torch.no_grad()
    def snapshot(self, batches: Sequence[tuple[Tensor, ...]]) -> nn.Module:
        """Return the network to sample from, with up-to-date buffers.

        Running statistics of BatchNorm belong to the weights that they were computed with.
        Therefore those of the average are computed from `batches`, once after each update; all
        other buffers are copied from the followed network.
        """
        if self._snapshot_is_current:
            return self.network
        pairs = zip(self.network.buffers(), self._followed.buffers(), strict=True)
        for ours, theirs in pairs:
            ours.copy_(theirs)
        standing_statistics(self.network, batches)
        self._snapshot_is_current = True
        return self.network


def standing_statistics(network: nn.Module, batches: Sequence[tuple[Tensor, ...]]) -> None:
    """Set BatchNorm's running statistics to their plain average over `batches`, in place.

    A batch contains the arguments of the network: latents, and labels if it is conditional.

    Averaged weights have no running statistics of their own, and sampling in evaluation mode needs
    them (BigGAN, appendix C.1). The network is left in evaluation mode.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if norms:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
        network.train()
        for batch in batches:
            network(*batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    network.eval()
