import copy

import pytest
import torch
from torch import nn

from ganscale.config import EMA
from ganscale.training.ema import MovingAverage


def average(ema: EMA, batch_size: int = 100) -> tuple[MovingAverage, nn.Module]:
    network = nn.Linear(3, 2)
    return MovingAverage(copy.deepcopy(network), network, ema, batch_size), network


def test_after_a_half_life_the_old_weights_count_half() -> None:
    moving, network = average(EMA(half_life=1000, ramp_up=None))
    old = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.fill_(2.0)
    for step in range(10):
        moving.update((step + 1) * 100)
    assert torch.allclose(moving.network.weight, old / 2 + 1, atol=1e-5)


def test_early_on_the_half_life_is_a_fraction_of_the_images_seen() -> None:
    moving, _ = average(EMA(half_life=10_000, ramp_up=0.05))
    assert moving.decay(2000) == pytest.approx(0.5)  # half-life 100 images, batch 100
    assert moving.decay(10**9) == pytest.approx(0.5**0.01)


def test_a_snapshot_has_batch_norm_statistics_of_its_own_weights() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    moving = MovingAverage(copy.deepcopy(network), network, EMA(half_life=1e9), 1)
    with torch.no_grad():
        network[0].bias += 100
    network(torch.randn(64, 4))
    latents = [torch.randn(64, 4) for _ in range(4)]
    sampled = moving.snapshot([(batch,) for batch in latents])
    assert abs(sampled(torch.cat(latents)).mean().item()) < 0.1
    assert not sampled.training
    assert not any(p.requires_grad for p in sampled.parameters())
