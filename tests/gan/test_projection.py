"""The search for a latent: its distance, the latents that it may reach, and what it finds."""

import math

import numpy as np
import torch
from torch import Tensor

from ganscale.gan.projection import image_distance, keep_typical, project


def averaged(pixels: np.ndarray, side: int) -> np.ndarray:  # type: ignore[type-arg]
    """The averages over side × side pixels of (C, H, W), written out."""
    channels, height, width = pixels.shape
    blocks = pixels.reshape(channels, height // side, side, width // side, side)
    averages: np.ndarray = blocks.mean((2, 4))  # type: ignore[type-arg]
    return averages


def test_the_distance_is_its_formula() -> None:
    torch.manual_seed(0)
    images, targets = torch.rand(2, 3, 3, 16, 16) * 2 - 1
    for coarse in (0.0, 0.25):
        found = image_distance(images, targets, coarse)
        for i in range(3):
            errors = (images[i].double() - targets[i].double()).numpy()
            wanted = (errors**2).mean()
            for side in (2, 4):  # down to 4 pixels
                wanted += coarse * (averaged(errors, side) ** 2).mean()
            assert math.isclose(float(found[i]), wanted, rel_tol=1e-5)


def test_what_is_drawn_stays_and_what_is_not_is_brought_back() -> None:
    torch.manual_seed(0)
    normal = torch.randn(1000, 100)
    moved = (keep_typical(normal, "normal") - normal).norm(dim=1) > 1e-4
    assert 0 <= int(moved.sum()) < 10  # 0.3 % of a normal variable lie beyond three deviations
    far = keep_typical(5 * normal, "normal").norm(dim=1)
    assert torch.allclose(far, torch.full_like(far, math.sqrt(99.5) + 3 * math.sqrt(0.5)))
    near = keep_typical(0.1 * normal, "normal").norm(dim=1)
    assert torch.allclose(near, torch.full_like(near, math.sqrt(99.5) - 3 * math.sqrt(0.5)))
    uniform = torch.tensor([[-3.0, 0.5, 1.5]])
    assert keep_typical(uniform, "uniform").tolist() == [[-1.0, 0.5, 1.0]]


def test_it_finds_the_latent_of_an_image_and_its_class() -> None:
    torch.manual_seed(0)
    weight, of_class = torch.randn(6, 64) / 4, torch.randn(2, 64)

    def generate(latents: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        return torch.tanh(latents @ weight + of_class[labels[0]]).view(-1, 1, 8, 8)

    hidden, classes = torch.randn(3, 6), torch.tensor([0, 1, 1])
    targets = generate(hidden, (classes,))
    candidates, labels = torch.randn(40, 6), torch.arange(40) % 2
    found = project(
        generate, targets, candidates, (labels,), distribution="normal", starts=4, steps=200
    )
    assert found.labels[0].tolist() == [0, 1, 1]
    assert (found.latents - hidden).abs().max() < 0.02
    distances = torch.stack([image_distance(generate(candidates, (labels,)), t) for t in targets])
    assert torch.equal(found.nearest, distances.argmin(1))
    without = project(generate, targets, candidates, (labels,), distribution="normal", steps=0)
    assert torch.equal(without.latents, candidates[found.nearest])
