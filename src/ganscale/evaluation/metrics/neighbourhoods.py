"""Precision, recall, density and coverage, which compare neighbourhoods of features."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ganscale.devices import float64_device
from ganscale.engines.distributed import Ranks
from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric

NEIGHBOURS = 5  # k of precision, recall, density and coverage (Naeem et al. 2020)
CHUNK = 1000  # rows of a distance matrix that are computed at a time
ALONE = Ranks()
CHART = "Precision, recall, coverage: higher is better"

V = TypeVar("V")


@METRICS.register("precision")
class Precision(Metric):
    """The share of generated images that lie in the neighbourhood of a real image."""

    chart = CHART

    def __call__(self, compared: Comparison) -> float:
        """Return the share."""
        return compared.once(_of_sides)["precision"]


@METRICS.register("recall")
class Recall(Metric):
    """The share of real images that lie in the neighbourhood of a generated image."""

    chart = CHART

    def __call__(self, compared: Comparison) -> float:
        """Return the share."""
        return compared.once(_of_sides)["recall"]


@METRICS.register("density")
class Density(Metric):
    """The mean number of real neighbourhoods that hold a generated image, over `NEIGHBOURS`."""

    def __call__(self, compared: Comparison) -> float:
        """Return the density."""
        return compared.once(_of_sides)["density"]


@METRICS.register("coverage")
class Coverage(Metric):
    """The share of real images whose neighbourhood holds a generated image."""

    chart = CHART

    def __call__(self, compared: Comparison) -> float:
        """Return the share."""
        return compared.once(_of_sides)["coverage"]


def _of_sides(compared: Comparison) -> dict[str, float]:
    device = float64_device(compared.device)
    real, fake = compared.real_features.to(device), compared.fake_features.to(device)
    ranks = compared.sources.ranks
    return neighbourhoods(real, fake, compared.once_for_real(_real_reach), ranks)


def _real_reach(compared: Comparison) -> Tensor:
    real = compared.real_features.to(float64_device(compared.device))
    return reach(real, compared.sources.ranks)


def neighbourhoods(
    real: Tensor, fake: Tensor, real_reach: Tensor | None = None, ranks: Ranks = ALONE
) -> dict[str, float]:
    """Return precision, recall, density and coverage of generated features.

    They are defined by Kynkäänniemi et al. (2019) and Naeem et al. (2020). An image's
    neighbourhood reaches to its 5th nearest neighbour among the images of its own side;
    `real_reach` is how far, where that is known. The ranks share the work: all must call this.
    """
    real, fake = real.double(), fake.double()
    real_reach = reach(real, ranks) if real_reach is None else real_reach
    fake_reach = reach(fake, ranks)

    def count(part: range) -> tuple[Tensor, Tensor, Tensor]:
        rows = slice(part.start, part.stop)
        distances = torch.cdist(real[rows], fake)
        inside = distances < real_reach[rows, None]
        return inside.sum(0).cpu(), inside.any(1).cpu(), (distances < fake_reach).any(1).cpu()

    in_real, covered, recalled = zip(*share_chunks(count, len(real), ranks), strict=True)
    holding = torch.stack(in_real).sum(0)
    return {
        "precision": float((holding > 0).double().mean()),
        "recall": float(torch.cat(recalled).double().mean()),
        "density": float(holding.double().mean() / NEIGHBOURS),
        "coverage": float(torch.cat(covered).double().mean()),
    }


def reach(features: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Return the distance of each image to its k-th nearest other image: (N,), float64."""
    features = features.double()
    k = min(NEIGHBOURS + 1, len(features))

    def of_chunk(part: range) -> Tensor:
        distances = torch.cdist(features[part.start : part.stop], features)
        return distances.kthvalue(k, dim=1).values.cpu()

    return torch.cat(share_chunks(of_chunk, len(features), ranks)).to(features.device)


def share_chunks(compute: Callable[[range], V], rows: int, ranks: Ranks) -> list[V]:
    """Return what `compute` gives for each chunk of rows, in order; each rank computes some.

    All ranks must call this. The results travel as objects, so their tensors must be in host
    memory. The chunks are the same for any number of ranks.
    """
    chunks = [range(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK)]
    mine = [compute(chunk) for chunk in chunks[ranks.rank :: ranks.world_size]]
    of_ranks = ranks.gather(mine)
    return [of_ranks[i % ranks.world_size][i // ranks.world_size] for i in range(len(chunks))]
