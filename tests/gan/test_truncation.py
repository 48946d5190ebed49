"""Truncated latents against their formula, and BatchNorm's statistics of them."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from ganscale.errors import GanscaleError
from ganscale.gan.truncation import BATCHES, truncate, with_standing_statistics


def test_it_is_the_formula() -> None:
    latents = torch.tensor([[-3.5, -1.0, 0.0, 0.3, 2.0, 6.8]])
    normal = NormalDist()
    for threshold in (0.25, 1.0, 2.0):
        found = truncate(latents, threshold, "normal")[0].tolist()
        below = normal.cdf(-threshold)
        inside = normal.cdf(threshold) - below
        wanted = [normal.inv_cdf(below + inside * normal.cdf(z)) for z in latents[0].tolist()]
        assert found == pytest.approx(wanted, abs=1e-5)
    assert torch.equal(truncate(latents, None, "normal"), latents)
    assert torch.allclose(truncate(latents[:, :5], 8.0, "normal"), latents[:, :5], atol=1e-5)
    uniform = torch.tensor([[-1.0, 0.5]])
    assert truncate(uniform, 0.5, "uniform").tolist() == [[-0.5, 0.25]]
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(GanscaleError, match="must be a number above 0"):
            truncate(latents, bad, "normal")


def test_its_numbers_are_those_of_drawing_again() -> None:
    torch.manual_seed(0)
    threshold = 0.8
    found = truncate(torch.randn(1, 200_000), threshold, "normal")[0]
    again = torch.randn(1_000_000)
    again = again[again.abs() <= threshold]
    assert found.abs().max() <= threshold
    for share in (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        wanted = again.quantile(share)
        assert abs(found.quantile(share) - wanted) < 0.01


def test_standing_statistics_are_means_over_batches() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2, bias=False), nn.BatchNorm1d(2), nn.Dropout(0.5)).eval()
    batches = torch.randn(BATCHES, 16, 3) * 0.3 + 1

    def draw(number: int) -> tuple[Tensor, ...]:
        return (batches[number],)

    changed = with_standing_statistics(network, draw)
    with torch.no_grad():
        inner = network[0](batches)
    norm = changed[1]  # type: ignore[index]
    assert torch.allclose(norm.running_mean, inner.mean(1).mean(0), atol=1e-5)
    assert torch.allclose(norm.running_var, inner.var(1).mean(0), atol=1e-5)
    assert (network[1].running_mean.tolist(), network[1].running_var.tolist()) == ([0, 0], [1, 1])
    assert not any(module.training for module in changed.modules())
    assert norm.momentum == network[1].momentum


def test_they_undo_a_scale_that_meets_batch_norm_at_once() -> None:
    """Why truncation does so little in a DCGAN; without them the images would burn out."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 4, bias=False), nn.BatchNorm1d(4)).eval()
    batches = torch.randn(BATCHES, 64, 8)

    def deviation(scale: float, standing: bool) -> float:
        latents = torch.randn(2000, 8) * scale
        used = with_standing_statistics(network, lambda k: (batches[k] * scale,))
        return float((used if standing else network)(latents).detach().std())

    assert deviation(0.1, standing=True) == pytest.approx(deviation(1.0, standing=True), rel=0.05)
    assert deviation(0.1, standing=False) < 0.2 * deviation(1.0, standing=False)
