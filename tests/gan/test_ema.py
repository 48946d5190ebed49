import copy

import pytest
import torch
from torch import nn

from ganscale.config import EMA, Pace
from ganscale.gan.ema import MovingAverage


def average(ema: EMA) -> tuple[MovingAverage, nn.Module]:
    network = nn.Linear(3, 2)
    return MovingAverage(copy.deepcopy(network), network, ema, Pace(100, 1000)), network


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


def test_without_a_half_life_the_average_is_the_weights_themselves() -> None:
    for ramp_up in (None, 0.05):
        moving, network = average(EMA(half_life=0, ramp_up=ramp_up))
        with torch.no_grad():
            network.weight.copy_(torch.randn(2, 3) * 1e-3)
        assert moving.decay(100) == 0
        moving.update(100)
        assert torch.equal(moving.network.weight, network.weight)


def test_a_scheduled_half_life_is_that_of_the_step_and_the_ramp_stays() -> None:
    half_life = {"from": 0, "to": 1000, "until": "10 steps"}
    moving, _ = average(EMA.model_validate({"half_life": half_life, "ramp_up": None}))
    steps = (1, 2, 6, 11, 40)  # their numbers from 0 are one less
    expected = [0.0, *(0.5 ** (100 / h) for h in (100, 500, 1000, 1000))]
    assert [moving.decay(100 * step) for step in steps] == pytest.approx(expected)
    moving, _ = average(EMA.model_validate({"half_life": half_life, "ramp_up": 0.5}))
    assert moving.decay(1100) == pytest.approx(0.5 ** (100 / 550))
    assert moving.decay(10_000) == pytest.approx(0.5 ** (100 / 1000))


def test_a_snapshot_has_batch_norm_statistics_of_its_own_weights() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    moving = MovingAverage(copy.deepcopy(network), network, EMA(half_life=1e9), Pace(1, 1))
    with torch.no_grad():
        network[0].bias += 100
    network(torch.randn(64, 4))
    latents = [torch.randn(64, 4) for _ in range(4)]
    sampled = moving.snapshot([(batch,) for batch in latents])
    assert abs(sampled(torch.cat(latents)).mean().item()) < 0.1
    assert not sampled.training
    assert not any(p.requires_grad for p in sampled.parameters())


def test_the_average_by_hand_while_the_half_life_grows() -> None:
    moving, network = average(EMA(half_life=400, ramp_up=0.5))
    assert not moving.network.training
    expected = network.weight.detach().clone()
    for step in range(1, 13):
        with torch.no_grad():
            network.weight += 0.1 * step
        moving.update(step * 100)
        kept = 0.5 ** (100 / min(400, 0.5 * step * 100))
        expected = kept * expected + (1 - kept) * network.weight.detach()
        assert torch.allclose(moving.network.weight, expected, atol=1e-5)
    assert not moving.network.weight.requires_grad


def test_a_snapshot_is_computed_anew_after_each_update_and_only_then() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False))
    network.register_buffer("note", torch.zeros(1))
    moving = MovingAverage(copy.deepcopy(network), network, EMA(half_life=1), Pace(1, 1))
    calls: list[int] = []
    moving.network.register_forward_hook(lambda *_: calls.append(1))
    batches = [(torch.randn(64, 4),)]
    moving.snapshot(batches)
    moving.snapshot(batches)
    assert len(calls) == 1
    for shift in (10.0, 20.0):  # once an update, with the weights and buffers of now
        with torch.no_grad():
            network[0].bias.fill_(shift)
            network.note.fill_(shift)
        moving.update(1)
        before = moving.network[0](batches[0][0]).mean(0)
        sampled = moving.snapshot(batches)
        assert torch.allclose(sampled[1].running_mean, before, atol=1e-4)
        assert sampled.note.item() == shift
    assert len(calls) == 3
