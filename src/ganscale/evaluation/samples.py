"""Images out of a generator: seeded, in pixels, a batch at a time."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganscale import randomness
from ganscale.config import Latent
from ganscale.errors import GanscaleError


class NotFiniteError(GanscaleError):
    """A generator's images are NaN or infinite."""

    def __init__(self) -> None:
        super().__init__(
            "the generator's images are not finite numbers: it has diverged. Take an older "
            "checkpoint, or train again from one with a lower learning rate, a penalty, or "
            "train.precision=fp32.",
            every_rank=True,
        )


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] to pixels 0 … 255, rounded to the nearest, on the host."""
    return ((images.float() + 1) * 127.5).round_().clamp_(0, 255).to("cpu", torch.uint8)


def pixels(images: Tensor) -> NDArray[np.uint8]:
    """Uint8 images (N, C, H, W) as an array of pictures (N, H, W, C)."""
    array: NDArray[np.uint8] = images.permute(0, 2, 3, 1).numpy()
    return array


def cycled_labels(classes: int | None, rows: range) -> tuple[Tensor, ...]:
    """Class i mod `classes` for sample i: what a conditional generator is called with."""
    if classes is None:
        return ()
    return (torch.arange(rows.start, rows.stop) % classes,)


def drawn_labels(shares: Tensor, seed: int, purpose: str, step: int, rows: range) -> Tensor:
    """Classes (len(rows),) int64 of some rows of a batch, class c with probability `shares[c]`.

    `shares` (classes,) need not add up to 1.
    """
    shares = shares.double().cpu()
    ends = (shares.cumsum(0) / shares.sum()).numpy()
    unit = randomness.uniform(seed, purpose, step, rows, (1,))
    labels = np.searchsorted(ends, unit[:, 0].numpy(), side="right")
    return torch.from_numpy(labels).clamp(max=len(shares) - 1)


@torch.no_grad()
def images_of(
    generator: nn.Module, latents: Tensor, labels: tuple[Tensor, ...], device: torch.device
) -> Tensor:
    """Uint8 images (N, C, H, W) of latents (N, dim), and classes (N,) if any, on the host."""
    return to_uint8(_floats(generator, latents, labels, device))


def _floats(
    generator: nn.Module, latents: Tensor, labels: tuple[Tensor, ...], device: torch.device
) -> Tensor:
    images: Tensor = generator(latents.to(device), *(label.to(device) for label in labels))
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
    """Samples number `rows` of a purpose, in uint8 batches (N, C, H, W) on the host.

    `labels` gives some rows' classes, or nothing. Sample i is the same whatever the rows it is
    asked for with. Raises `NotFiniteError` where a pixel is NaN: in uint8 it would pass for black.
    """
    for start in range(rows.start, rows.stop, batch_size):
        part = range(start, min(start + batch_size, rows.stop))
        latents = randomness.latents(latent, seed, purpose, 0, part)
        images = _floats(generator, latents, labels(part), device)
        if not torch.isfinite(images).all():
            raise NotFiniteError
        yield to_uint8(images)
