"""Truncated latents, whose images are more typical and more alike, and BatchNorm's share in them.

This is the truncation trick of Brock et al. 2019 ("Large scale GAN training for high fidelity
natural image synthesis", section 3.1), written as a map of latents so that a sample keeps its
number.
"""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganscale import randomness
from ganscale.devices import float64_device
from ganscale.errors import GanscaleError
from ganscale.gan.sampling import sample_labels
from ganscale.randomness import LatentOptions

BATCHES, BATCH_SIZE = 100, 64  # of standing statistics; Brock et al. 2019, appendix B: 100 passes

Inputs = tuple[Tensor, ...]


def truncate(latents: Tensor, threshold: float | None, distribution: str) -> Tensor:
    """Return latents (N, dim) whose numbers all lie within the threshold; None changes nothing.

    Brock et al. draw each number again until its magnitude is at most the threshold t. This map
    gives numbers of the same distribution, and moves each one only as far as that needs: the share
    of truncated numbers below z' is that of all numbers below z,

        Φ(z) = (Φ(z') - Φ(-t)) / (Φ(t) - Φ(-t)),  thus  erf(z' / √2) = erf(t / √2) erf(z / √2),

    with Φ the normal distribution. So a sample changes gradually as t falls from ∞ (nothing is
    truncated; 2 is a mild truncation) towards 0. Uniform latents on [-1, 1] become t z.
    Raises `GanscaleError` if t is not above 0.
    """
    if threshold is None:
        return latents
    if not threshold > 0:
        raise GanscaleError(f"truncation={threshold} must be a number above 0")
    if distribution == "uniform":
        return latents * min(threshold, 1.0)
    share = math.erf(threshold / math.sqrt(2))
    # In float64: in float32, erf is 1 beyond 3.9 deviations.
    precise = latents.to(float64_device(latents.device)).double()
    inside = torch.erfinv(share * torch.erf(precise / math.sqrt(2)))
    truncated = (math.sqrt(2) * inside).to(latents.dtype).clamp(-threshold, threshold)
    return truncated.to(latents.device)


def has_batch_norm(network: nn.Module) -> bool:
    """Return whether a network in evaluation mode uses running statistics of BatchNorm."""
    return bool(_batch_norms(network))


def with_standing_statistics(network: nn.Module, draw: Callable[[int], Inputs]) -> nn.Module:
    """Return a copy whose BatchNorm has the statistics of the latents that it will meet.

    The running statistics are those of latents that are not truncated: with them, activations of
    truncated latents are not normalised, and images burn out. "Standing statistics" (Brock et al.
    2019, appendix B) are the means, over many batches, of the mean and the variance of each batch.
    draw: the number of a batch -> what the network is called with.

    In a network whose latent meets BatchNorm right after the first layer, as in DCGAN, they divide
    by the smaller deviation and so undo most of the truncation.
    """
    network = copy.deepcopy(network)
    layers = _batch_norms(network)
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean over all batches
        layer.train()
    with torch.no_grad():
        for number in range(BATCHES):
            network(*draw(number))
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
        layer.eval()
    return network


def with_truncated_statistics(
    network: nn.Module,
    latent: LatentOptions,
    classes: int | None,
    threshold: float,
    device: torch.device,
) -> nn.Module:
    """Return a copy with the standing statistics of truncated latents.

    They are the same for each seed, over the classes in turn.
    """
    rows = range(BATCH_SIZE)

    def draw(number: int) -> Inputs:
        drawn = randomness.latents(latent, 0, "standing statistics", number, rows, device)
        labels = (label.to(device) for label in sample_labels(rows, classes))
        return (truncate(drawn, threshold, latent.distribution), *labels)

    return with_standing_statistics(network, draw)


def _batch_norms(network: nn.Module) -> list[_BatchNorm]:
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    return [layer for layer in layers if layer.track_running_stats]
