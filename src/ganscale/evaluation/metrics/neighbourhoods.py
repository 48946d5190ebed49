"""Precision, recall, density and coverage, which compare neighbourhoods of features."""

import torch
from torch import Tensor

from ganscale.devices import float64_device
from ganscale.evaluation.metrics.metric import METRICS, Comparison, Metric

NEIGHBOURS = 5  # k of precision, recall, density and coverage (Naeem et al. 2020)
CHUNK = 1000  # rows of a distance matrix that are computed at a time
CHART = "Precision, recall, coverage: higher is better"


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
    return neighbourhoods(compared.real_features.to(device), compared.fake_features.to(device))


def neighbourhoods(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Return precision, recall, density and coverage of generated features.

    They are defined by Kynkäänniemi et al. (2019) and Naeem et al. (2020). An image's
    neighbourhood reaches to its 5th nearest neighbour among the images of its own side.
    """
    real, fake = real.double(), fake.double()
    real_reach, fake_reach = _reach(real), _reach(fake)
    in_real = torch.zeros(len(fake), dtype=torch.long, device=fake.device)
    recalled, covered = [], []
    for start in range(0, len(real), CHUNK):
        part = slice(start, start + CHUNK)
        distances = torch.cdist(real[part], fake)
        inside = distances < real_reach[part, None]
        in_real += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((distances < fake_reach).any(1))
    return {
        "precision": float((in_real > 0).double().mean()),
        "recall": float(torch.cat(recalled).double().mean()),
        "density": float(in_real.double().mean() / NEIGHBOURS),
        "coverage": float(torch.cat(covered).double().mean()),
    }


def _reach(features: Tensor) -> Tensor:
    """Return the distance of each image to its k-th nearest other image."""
    k = min(NEIGHBOURS + 1, len(features))
    chunks = features.split(CHUNK)
    return torch.cat([torch.cdist(c, features).kthvalue(k, dim=1).values for c in chunks])
