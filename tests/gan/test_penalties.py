"""Each penalty against its formula on a discriminator whose gradient is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ganscale.gan.penalties import PENALTIES

torch.manual_seed(0)
REAL = torch.randn(6, 1, 3, 3, dtype=torch.float64)
FAKE = torch.randn(6, 1, 3, 3, dtype=torch.float64)
MATRIX = torch.randn(9, 9, dtype=torch.float64)


def quadratic(images: Tensor) -> Tensor:
    """½ xᵀAx: its gradient is ½(A + Aᵀ)x."""
    flat = images.flatten(1)
    return 0.5 * ((flat @ MATRIX) * flat).sum(1)


def gradient(images: Tensor) -> Tensor:
    return images.flatten(1) @ (0.5 * (MATRIX + MATRIX.T))


class Draws:
    """Uniform numbers that a test can look at afterwards."""

    def __init__(self) -> None:
        self.made: list[Tensor] = []

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        numbers = torch.rand(6, *shape, dtype=torch.float64)
        self.made.append(numbers)
        return numbers


def test_r1_and_r2() -> None:
    for name, images in (("r1", REAL), ("r2", FAKE)):
        value = PENALTIES.get(name)()(quadratic, REAL, FAKE, Draws())
        assert value.item() == pytest.approx(0.5 * gradient(images).square().sum(1).mean().item())


def test_wgan_gp() -> None:
    draws = Draws()
    value = PENALTIES.get("wgan_gp")()(quadratic, REAL, FAKE, draws)
    (alpha,) = draws.made
    between = alpha * REAL + (1 - alpha) * FAKE
    expected = (gradient(between).norm(dim=1) - 1).square().mean()
    assert value.item() == pytest.approx(expected.item())


def test_dragan() -> None:
    draws = Draws()
    value = PENALTIES.get("dragan")()(quadratic, REAL, FAKE, draws)
    noise, alpha = draws.made
    deviation = REAL.flatten(1).std(dim=1).view(-1, 1, 1, 1)
    near = REAL + alpha * 0.5 * deviation * noise
    expected = (gradient(near).norm(dim=1) - 1).square().mean()
    assert value.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("name", PENALTIES.names())
def test_gradient_on_the_weights_against_finite_differences(name: str) -> None:
    """The penalty is itself minimised: its own gradient is a second derivative."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Tanh(), nn.Linear(4, 1)).double()

    def value() -> Tensor:
        torch.manual_seed(1)
        return PENALTIES.get(name)()(lambda x: network(x).squeeze(1), REAL, FAKE, Draws())

    weights = [p for p in network.parameters() if p.ndim == 2]
    exact = torch.autograd.grad(value(), weights)
    for weight, slope in zip(weights, exact, strict=True):
        step = torch.zeros_like(weight)
        step.view(-1)[3] = 1e-6
        difference = _central(value, weight, step) / 2e-6
        assert difference == pytest.approx(slope.view(-1)[3].item(), rel=1e-5, abs=1e-9)


def _central(value: Callable[[], Tensor], weight: Tensor, step: Tensor) -> float:
    with torch.no_grad():
        weight += step
    above = value().item()
    with torch.no_grad():
        weight -= 2 * step
    below = value().item()
    with torch.no_grad():
        weight += step
    return above - below


@pytest.mark.parametrize("name", PENALTIES.names())
def test_a_flat_discriminator_gives_no_nan(name: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 1)).double()
    nn.init.zeros_(network[1].weight)
    value = PENALTIES.get(name)()(lambda x: network(x).squeeze(1), REAL, FAKE, Draws())
    value.backward()
    assert torch.isfinite(network[1].weight.grad).all()
