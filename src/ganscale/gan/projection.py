"""Projection: the latent whose image comes nearest to a given one (inversion of the generator).

Adam follows the gradient of a distance of images through the generator down to the latent, from
several starts at once, and keeps the latent among those that training has drawn.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LEARNING_RATE = 0.3  # falls to 0 along half a cosine; latents have a deviation of about 1
CANDIDATES = 512  # random latents that are enough to begin with
COARSEST = 4  # pixels; the side at which halving stops
SHELL = 3.0  # standard deviations of the norm of a normal latent

Generate = Callable[[Tensor, tuple[Tensor, ...]], Tensor]


class Projection(NamedTuple):
    """The latents found for N targets, and where the search for them began."""

    latents: Tensor
    """(N, dim), float32."""
    labels: tuple[Tensor, ...]
    """The classes (N,) of a conditional generator; nothing for another."""
    nearest: Tensor
    """(N,) int64: the candidate whose image was nearest, and one of the starts."""


def image_distance(images: Tensor, targets: Tensor, coarse: float = 0.0) -> Tensor:
    """Return the distance of images to their targets: float32, (N,).

    images, targets: (N, C, H, W) in [-1, 1], broadcast against each other. It is the mean squared
    error of the pixels, plus `coarse` times those of the averages over 2×2, 4×4, … pixels, down to
    a side of `COARSEST`. These have a useful gradient even where a shape lies beside its target.
    """
    errors = images.float() - targets.float()
    distance = errors.square().mean((1, 2, 3))
    while coarse and min(errors.shape[-2:]) >= 2 * COARSEST:
        errors = F.avg_pool2d(errors, 2)  # averaging is linear: the difference of the averages
        distance = distance + coarse * errors.square().mean((1, 2, 3))
    return distance


def keep_typical(latents: Tensor, distribution: str) -> Tensor:
    """Return the nearest latents among those that are drawn in training: (N, dim).

    Uniform latents lie in [-1, 1]. The norm of standard normal ones has mean √(dim - ½) and
    deviation √½, both up to O(1 / dim): it is kept within `SHELL` deviations. Far from that shell
    a generator may come nearer to any picture with a latent that it was never trained for.
    """
    if distribution == "uniform":
        return latents.clamp(-1, 1)
    mean, deviation = math.sqrt(latents.shape[1] - 0.5), math.sqrt(0.5)
    norms = latents.norm(dim=1, keepdim=True).clamp(min=1e-6)
    bounded = norms.clamp(max(0.0, mean - SHELL * deviation), mean + SHELL * deviation)
    kept: Tensor = latents * (bounded / norms)
    return kept


def project(
    generate: Generate,
    targets: Tensor,
    candidates: Tensor,
    labels: tuple[Tensor, ...],
    *,
    distribution: str,
    starts: int = 8,
    steps: int = 500,
    batch_size: int = 64,
) -> Projection:
    """Find, for each target (N, C, H, W) in [-1, 1], the latent whose image is nearest.

    generate: (latents (n, dim), labels) -> images (n, C, H, W); rows do not influence each other.
    candidates: latents (M, dim) drawn as in training, and `labels` their classes (M,), or nothing.
    The `starts` candidates nearest to a target are moved by `steps` steps of Adam; classes stay.
    Coarse resolutions count at first, and less and less until pixels alone are left. What counts is
    the latent whose pixels were nearest in all steps.
    """
    distances = _distances_of_candidates(generate, targets, candidates, labels, batch_size)
    chosen = distances.topk(min(starts, len(candidates)), dim=0, largest=False).indices.T
    rows = chosen.flatten()
    latents = candidates[rows].float().clone().requires_grad_()
    classes = tuple(label[rows] for label in labels)
    wanted = targets.repeat_interleave(chosen.shape[1], 0)
    best, nearest = latents.detach().clone(), torch.full((len(rows),), math.inf).to(targets.device)
    optimizer = torch.optim.Adam([latents], lr=LEARNING_RATE)
    for step in range(steps + 1):
        images = generate(latents, classes)
        with torch.no_grad():
            distance = image_distance(images, wanted)
            improved = distance < nearest
            best = torch.where(improved[:, None], latents, best)
            nearest = torch.where(improved, distance, nearest)
        if step == steps:
            break
        left = 1 - step / steps
        loss = image_distance(images, wanted, coarse=left).sum()
        (latents.grad,) = torch.autograd.grad(loss, latents)
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * math.sin(math.pi * left / 2) ** 2
        optimizer.step()
        with torch.no_grad():
            latents.copy_(keep_typical(latents, distribution))
    winners = nearest.view(chosen.shape).argmin(1)
    winners = winners + torch.arange(len(targets), device=targets.device) * chosen.shape[1]
    return Projection(best[winners], tuple(c[winners] for c in classes), chosen[:, 0])


@torch.no_grad()
def _distances_of_candidates(
    generate: Generate,
    targets: Tensor,
    candidates: Tensor,
    labels: tuple[Tensor, ...],
    batch_size: int,
) -> Tensor:
    """Return the distance of each candidate's image to each target: (M, N)."""
    found = []
    for start in range(0, len(candidates), batch_size):
        rows = slice(start, start + batch_size)
        images = generate(candidates[rows], tuple(label[rows] for label in labels))
        found.append(torch.stack([image_distance(images, target[None]) for target in targets], 1))
    return torch.cat(found)
