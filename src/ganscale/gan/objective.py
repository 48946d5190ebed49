"""What both players minimise in one update, as the game wants it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ganscale.gan.losses import Loss
from ganscale.gan.penalties import Penalty, PointPenalty

Network = Callable[..., Tensor]


class WeightedPenalty(NamedTuple):
    """A gradient penalty that is due in this update, with forward passes of its own."""

    name: str
    penalty: Penalty
    weight: float | Tensor
    discriminator: Network  # in the penalty's precision


class SharedPenalty(NamedTuple):
    """A gradient penalty that is due in this update, and taken from the loss's forward pass."""

    name: str
    penalty: PointPenalty
    weight: float | Tensor


@dataclass(frozen=True)
class Objective:
    """What both players minimise in one update."""

    loss: Loss
    real_target: float = 1.0  # D's target for real images; below 1 with label smoothing
    penalties: Sequence[WeightedPenalty | SharedPenalty] = ()
    one_batch: bool = False  # one pass for real and generated images: only if D mixes no images
