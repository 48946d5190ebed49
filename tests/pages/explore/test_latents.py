"""The latents in numpy are those that torch draws, and truncation and walks are the library's."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from ganscale import randomness
from ganscale.devices import HOST
from ganscale.gan.sampling import interpolation
from ganscale.gan.truncation import truncate as truncate_with_torch
from ganscale.pages.explore.latents import between, draw_latents, truncate

SEEDS = (0, 1, 7, 10**17)


@dataclass(frozen=True)
class _Latent:
    dim: int
    distribution: str


def _drawn_with_torch(latent: _Latent) -> Tensor:
    rows = [randomness.latents(latent, s, "sample", 0, range(1), HOST) for s in SEEDS]
    return torch.cat(rows)


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("dim", [1, 7, 128])
def test_they_are_the_same_bits(dim: int, distribution: str) -> None:
    wanted = _drawn_with_torch(_Latent(dim, distribution))
    found = draw_latents(SEEDS, dim, distribution)
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted.numpy())


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("threshold", [None, 0.25, 1.0, 5.0])
def test_truncated_they_are_the_same_bits(threshold: float | None, distribution: str) -> None:
    wanted = truncate_with_torch(
        _drawn_with_torch(_Latent(200, distribution)), threshold, distribution
    )
    found = truncate(draw_latents(SEEDS, 200, distribution), threshold, distribution)
    assert np.array_equal(found, wanted.numpy())


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_a_walk_takes_the_library_s_way(distribution: str) -> None:
    a, b = draw_latents([1], 64, distribution), draw_latents([2], 64, distribution)
    way = interpolation(distribution)
    for t in (0.0, 0.3, 0.9):
        wanted = way(torch.from_numpy(a), torch.from_numpy(b), torch.tensor(t)).numpy()
        assert between(a, b, t, distribution) == pytest.approx(wanted, abs=2e-6)
