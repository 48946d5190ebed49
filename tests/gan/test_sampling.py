"""Samples by number, in any batches; the ways between latents; pixels."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Latent
from ganscale.errors import GanscaleError
from ganscale.gan.sampling import (
    NotFiniteError,
    from_pixels,
    generate,
    images_of,
    interpolation,
    refuse_unknown_class,
    sample_labels,
    to_pixels,
)

HOST = torch.device("cpu")


def test_pixels_are_rounded_to_the_nearest() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(pixels / 127.5 - 1), pixels)
    assert to_pixels(torch.tensor([-1.5, 1.5])).tolist() == [0, 255]


def test_a_sample_does_not_depend_on_its_batch() -> None:
    latent = Latent(dim=8)
    network = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Unflatten(1, (1, 2, 2)))

    def latents(rows: range) -> Tensor:
        return randomness.latents(latent, 1, "sample", 0, rows, HOST)

    def samples(rows: range, batch: int) -> Tensor:
        return torch.cat(list(generate(network, latents, lambda _: (), rows, batch)))

    assert torch.equal(samples(range(10), 10)[4:9], samples(range(4, 9), 2))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_pixel_that_is_no_number_is_refused(value: float) -> None:
    latents = torch.zeros(2, 1, 2, 2)
    latents[1, 0, 1, 1] = value
    with pytest.raises(NotFiniteError, match="it has diverged"):
        images_of(nn.Identity(), latents, ())


def test_normal_latents_go_along_the_sphere_and_uniform_ones_along_a_line() -> None:
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    for t in (0.0, 0.25, 0.5, 1.0):
        angle = t * math.pi / 2
        on_circle = 3 * torch.tensor([[math.cos(angle), math.sin(angle)]])
        torch.testing.assert_close(interpolation("normal")(a, b, torch.tensor(t)), on_circle)
        on_line = torch.tensor([[3 * (1 - t), 3 * t]])
        torch.testing.assert_close(interpolation("uniform")(a, b, torch.tensor(t)), on_line)


def test_classes_come_in_turn_unless_one_is_asked_for() -> None:
    assert sample_labels(range(8, 12), None) == ()
    assert sample_labels(range(8, 12), 10)[0].tolist() == [8, 9, 0, 1]
    assert sample_labels(range(8, 12), 10, 3)[0].tolist() == [3, 3, 3, 3]
    with pytest.raises(GanscaleError, match="class 10: this generator knows classes 0 … 9"):
        refuse_unknown_class(10, 10)
    with pytest.raises(GanscaleError, match="class 0: this generator knows no classes"):
        refuse_unknown_class(0, None)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_each_pixel_comes_back_as_it_was(dtype: torch.dtype) -> None:
    bits = 8 * dtype.itemsize
    pixels = torch.arange(2**bits, dtype=torch.int32).to(dtype)
    images = from_pixels(pixels)
    assert images.dtype == torch.float32
    expected = np.arange(2**bits) / (2**bits - 1) * 2 - 1
    assert np.allclose(images.numpy(), expected, rtol=0, atol=2e-7)
    assert torch.equal(to_pixels(images, bits), pixels)
    assert to_pixels(torch.tensor([-1.5, 1.5]), bits).tolist() == [0, 2**bits - 1]
