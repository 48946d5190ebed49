"""Generation of images from seeded latents, as pixels, in batches."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Latent
from ganscale.errors import GanscaleError
from ganscale.gan.sampling import to_uint8


class NotFiniteError(GanscaleError):
    """The error that a generator's images contain NaN or infinite values."""

    def __init__(self) -> None:
        super().__init__(
            "the generator's images contain NaN or infinite values: it has diverged. Use an older "
            "checkpoint, or resume from one with a lower learning rate, a penalty, or "
            "train.precision=fp32.",
            every_rank=True,
        )


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """Return uint8 images (N, C, H, W) as a numpy array (N, H, W, C)."""
    array: NDArray[np.uint8] = images.permute(0, 2, 3, 1).numpy()
    return array


def cycled_labels(classes: int | None, rows: range) -> tuple[Tensor, ...]:
    """Return class i mod `classes` for each sample i, as arguments of a conditional generator.

    Returns no arguments for an unconditional one.
    """
    if classes is None:
        return ()
    return (torch.arange(rows.start, rows.stop) % classes,)


def drawn_labels(
    shares: Tensor, seed: int, purpose: str, step: int, rows: range, device: torch.device
) -> Tensor:
    """Draw classes (len(rows),), int64, for some rows of a batch, in proportion to `shares`.

    `shares` (classes,) need not sum to 1.
    """
    # Summed on the host, so that no device rounds the sums in another way.
    shares = shares.double().cpu()
    ends = (shares.cumsum(0) / shares.sum()).to(device)
    unit = randomness.uniform(seed, purpose, step, rows, (), device).double()
    return torch.searchsorted(ends, unit, right=True).clamp(max=len(shares) - 1)


@torch.no_grad()
def images_of(generator: nn.Module, latents: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
    """Generate uint8 images (N, C, H, W) in host memory.

    `latents` (N, dim) are on the generator's device; `labels` holds the classes (N,) of a
    conditional one.
    """
    return to_uint8(_run_generator(generator, latents, labels))


def _run_generator(generator: nn.Module, latents: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
    images: Tensor = generator(latents, *(label.to(latents.device) for label in labels))
    return images


@torch.no_grad()
def generate(
    generator: nn.Module,
    latent: Latent,
    seed: int,
    purpose: str,
    rows: range,
    batch_size: int,
    device: torch.device,
    labels: Callable[[range], tuple[Tensor, ...]],
) -> Iterator[Tensor]:
    """Yield the samples with numbers `rows`, in uint8 batches (N, C, H, W) in host memory.

    `labels(rows)` returns the classes of some rows, or no arguments. Sample i is always the same
    for one seed and purpose, whatever rows are requested. Raises `NotFiniteError` if a pixel is NaN
    or infinite, because a NaN would look black in uint8.
    """
    for start in range(rows.start, rows.stop, batch_size):
        part = range(start, min(start + batch_size, rows.stop))
        latents = randomness.latents(latent, seed, purpose, 0, part, device)
        images = _run_generator(generator, latents, labels(part))
        if not torch.isfinite(images).all():
            raise NotFiniteError
        yield to_uint8(images)
