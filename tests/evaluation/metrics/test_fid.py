"""FID where there are fewer images than features, so that the covariances are singular."""

import pytest
import torch
from torch import Tensor

from ganscale.evaluation.features.network import Features
from ganscale.evaluation.metrics.fid import frechet_distance
from ganscale.evaluation.metrics.sums import Sums


def distance_of_images(x: Tensor, y: Tensor) -> float:
    """The distance without covariances: Tr √(C C₂) is the sum of the singular values of X X₂ᵀ."""
    (mean, a), (mean_2, b) = ((v.mean(0), (v - v.mean(0)) / (len(v) - 1) ** 0.5) for v in (x, y))
    root = torch.linalg.svdvals(a @ b.T).sum()
    return float((mean - mean_2).square().sum() + a.square().sum() + b.square().sum() - 2 * root)


def sums_of(features: Tensor) -> Sums:
    measured = Features(features, features.new_zeros(len(features), 0))
    sums = Sums.zero(measured)
    sums.add(measured)
    return sums


@pytest.mark.parametrize(("number", "other"), [(20, 12), (20, 300), (300, 12), (2, 2)])
def test_singular_covariances_have_the_distance_of_their_images(number: int, other: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -3, 96, dtype=torch.float64)  # real features differ as much in size
    x = torch.randn(number, 96, generator=generator, dtype=torch.float64).relu() * scale
    y = torch.randn(other, 96, generator=generator, dtype=torch.float64).relu() * scale + 0.01
    found = frechet_distance(sums_of(x), sums_of(y))
    assert found == pytest.approx(distance_of_images(x, y), rel=1e-5)
    assert frechet_distance(sums_of(y), sums_of(x)) == pytest.approx(found, rel=1e-5)
    assert frechet_distance(sums_of(x), sums_of(x)) == pytest.approx(0, abs=1e-5)
