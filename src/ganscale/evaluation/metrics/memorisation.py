"""Memorisation: whether samples lie nearer to training images than those do to each other."""

from typing import NamedTuple

import torch
from torch import Tensor

from ganscale.devices import float64_device
from ganscale.engines.distributed import Ranks
from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric
from ganscale.evaluation.metrics.neighbourhoods import ALONE, share_chunks

SAME = 1e-4  # of the typical distance from the mean: images that are nearer are copies of another


@METRICS.register("memorisation")
class Memorisation(Metric):
    """The share of generated images that are nearer to a real image than its nearest real one."""

    chart = "Memorisation: 1 is that of copies"
    lower_is_better = None
    optional = True

    def __call__(self, compared: Comparison) -> float:
        """Return the share."""
        real, fake = _on_device(compared, compared.real_features, compared.fake_features)
        return memorisation(real, fake, compared.once_for_real(_real), compared.sources.ranks)

    def details(self, compared: Comparison) -> dict[str, float]:
        """Return what perfect samples would get."""
        return {"perfect samples": compared.once_for_real(_real).share_of_perfect}


class RealNeighbours(NamedTuple):
    """The nearest real neighbours of real images."""

    reach: Tensor
    """How far each real image is from the nearest other one, (N,), float64."""
    share_of_perfect: float
    """The memorisation of perfect samples."""


def memorisation(
    real: Tensor, fake: Tensor, known: RealNeighbours | None = None, ranks: Ranks = ALONE
) -> float:
    """Return the share of samples x with |x - r| < |r - r'|, of features (N, width).

    r is the real image nearest to the sample x, and r' the one nearest to r that is not a copy of
    it. This is 1 - authenticity (Alaa et al. 2022, "How faithful is your synthetic data?",
    equation 8), but for the copies, which would hide each other: images that are as good as equal
    count as one. A generator that copies real images gets 1. All ranks must call this.
    """
    real, fake = real.double(), fake.double()
    reach = (known or real_neighbours(real, ranks)).reach

    def copied(part: range) -> Tensor:
        nearest = torch.cdist(fake[part.start : part.stop], real).min(1)
        return (nearest.values < reach[nearest.indices]).cpu()

    return float(torch.cat(share_chunks(copied, len(fake), ranks)).double().mean())


def real_neighbours(real: Tensor, ranks: Ranks = ALONE) -> RealNeighbours:
    """Return the nearest neighbours of real features (N, width). All ranks must call this.

    A perfect sample is one more image like the real ones, so its memorisation is that of each real
    image among all others: the share of images that are the nearest neighbour of their own nearest
    neighbour. In one dimension that is 2/3, and in more it is less.
    """
    real = real.double()
    same = SAME * float((real - real.mean(0)).square().sum(1).mean().sqrt())

    def nearest(part: range) -> tuple[Tensor, Tensor]:
        distances = torch.cdist(real[part.start : part.stop], real)
        distances[distances <= same] = torch.inf  # to itself and to its copies
        found = distances.min(1)
        return found.values.cpu(), found.indices.cpu()

    distances, neighbours = map(
        torch.cat, zip(*share_chunks(nearest, len(real), ranks), strict=True)
    )
    # Rounding may let a distance differ from the same one the other way round.
    is_mutual = distances[neighbours] >= distances * (1 - 1e-9)
    reach = distances.to(real.device)
    return RealNeighbours(reach, float(is_mutual.double().mean()))


def _real(compared: Comparison) -> RealNeighbours:
    (real,) = _on_device(compared, compared.real_features)
    return real_neighbours(real, compared.sources.ranks)


def _on_device(compared: Comparison, *features: Tensor) -> tuple[Tensor, ...]:
    device = float64_device(compared.device)
    return tuple(tensor.to(device) for tensor in features)
