"""Each loss against its formula written out with probabilities in float64."""

import math

import pytest
import torch

from ganscale.gan.losses import LOSSES, build_loss

REAL = torch.tensor([0.3, -1.2, 2.5, 0.0], dtype=torch.float64)
FAKE = torch.tensor([-0.7, 1.1, -3.0, 0.4], dtype=torch.float64)
N = len(REAL)


def probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def mean(values: list[float]) -> float:
    return sum(values) / N


PAIRS = list(zip(REAL.tolist(), FAKE.tolist(), strict=True))
CROSS_ENTROPY = mean([-math.log(probability(r)) - math.log(1 - probability(f)) for r, f in PAIRS])
EXPECTED = {
    "minimax": (CROSS_ENTROPY, mean([math.log(1 - probability(f)) for _, f in PAIRS])),
    "non_saturating": (CROSS_ENTROPY, mean([-math.log(probability(f)) for _, f in PAIRS])),
    "least_squares": (
        mean([0.5 * (r - 1) ** 2 + 0.5 * f**2 for r, f in PAIRS]),
        mean([0.5 * (f - 1) ** 2 for _, f in PAIRS]),
    ),
    "wasserstein": (mean([f - r for r, f in PAIRS]), mean([-f for _, f in PAIRS])),
    "hinge": (
        mean([max(0, 1 - r) + max(0, 1 + f) for r, f in PAIRS]),
        mean([-f for _, f in PAIRS]),
    ),
    "relativistic": (
        mean([-math.log(probability(r - f)) for r, f in PAIRS]),
        mean([-math.log(probability(f - r)) for r, f in PAIRS]),
    ),
}


@pytest.mark.parametrize("name", LOSSES.names())
def test_formula(name: str) -> None:
    loss = build_loss(name)
    discriminator, generator = EXPECTED[name]
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, abs=1e-12)
    assert loss.generator(FAKE, REAL).item() == pytest.approx(generator, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES.names())
def test_each_player_pulls_its_own_way(name: str) -> None:
    """One small step down each loss: real logits rise and fake ones fall, or fake ones rise."""
    undecided = torch.full((N,), 0.5, dtype=torch.float64)
    real, fake = undecided.clone().requires_grad_(), undecided.clone().requires_grad_()
    down_real, down_fake = torch.autograd.grad(
        build_loss(name).discriminator(real, fake), (real, fake)
    )
    assert -down_real.mean() > 0
    assert -down_fake.mean() < 0
    (pull,) = torch.autograd.grad(build_loss(name).generator(fake, undecided), fake)
    assert -pull.mean() > 0


@pytest.mark.parametrize("name", LOSSES.names())
def test_gradients_against_finite_differences(name: str) -> None:
    loss = build_loss(name)
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    assert torch.autograd.gradcheck(loss.discriminator, (real, fake))
    assert torch.autograd.gradcheck(loss.generator, (fake, real.detach()))


@pytest.mark.parametrize("name", LOSSES.names())
def test_extreme_logits_stay_finite(name: str) -> None:
    far = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(build_loss(name).discriminator(far, far.flip(0)))
    assert torch.isfinite(build_loss(name).generator(far, far.flip(0)))


def test_the_relativistic_generator_needs_real_logits() -> None:
    with pytest.raises(ValueError, match="real"):
        build_loss("relativistic").generator(FAKE, None)


def test_a_smoothed_target() -> None:
    """Salimans et al. 2016, section 3.4; losses without a target take no notice of it."""
    t = 0.9
    smoothed = mean(
        [
            -t * math.log(probability(r))
            - (1 - t) * math.log(1 - probability(r))
            - math.log(1 - probability(f))
            for r, f in PAIRS
        ]
    )
    expected = {name: values[0] for name, values in EXPECTED.items()}
    expected["minimax"] = expected["non_saturating"] = smoothed
    expected["least_squares"] = mean([0.5 * (r - t) ** 2 + 0.5 * f**2 for r, f in PAIRS])
    for name in LOSSES.names():
        value = build_loss(name).discriminator(REAL, FAKE, t).item()
        assert value == pytest.approx(expected[name], abs=1e-12), name


def test_only_the_relativistic_loss_pairs() -> None:
    assert {name for name in LOSSES.names() if LOSSES.get(name).paired} == {"relativistic"}
