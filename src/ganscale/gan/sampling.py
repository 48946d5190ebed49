"""From latents to pictures: batches of samples, ways between two latents, and images as bytes.

A program that only samples a saved generator imports this file: it needs torch and nothing else.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ganscale.errors import GanscaleError

Interpolation = Callable[[Tensor, Tensor, Tensor], Tensor]


class NotFiniteError(GanscaleError):
    """The error that a generator's images contain NaN or infinite values."""

    def __init__(self) -> None:
        super().__init__(
            "the generator's images contain NaN or infinite values: it has diverged. Use an older "
            "checkpoint, or resume from one with a lower learning rate, a penalty, or "
            "train.precision=fp32.",
            every_rank=True,
        )


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Interpolate along a sphere, near which normal latents lie, unlike a line (White 2016).

    a, b: latents (N, dim); t: 0-dimensional, from 0 to 1.
    """
    cosine = cosine_similarity(a, b, dim=1).clamp(-0.9999, 0.9999)
    angle = torch.arccos(cosine)[:, None]
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def interpolation(distribution: str) -> Interpolation:
    """Return the way between latents of this distribution: a line if `uniform`, else `slerp`."""
    return torch.lerp if distribution == "uniform" else slerp


def refuse_unknown_class(label: int | None, classes: int | None) -> None:
    """Raise `GanscaleError` if a generator of so many classes, or of none, has no such class."""
    if label is not None and not (classes and 0 <= label < classes):
        known = f"classes 0 … {classes - 1}" if classes else "no classes"
        raise GanscaleError(f"cannot generate class {label}: this generator knows {known}")


def sample_labels(rows: range, classes: int | None, label: int | None = None) -> tuple[Tensor, ...]:
    """Return the classes of samples as arguments of a generator: (len(rows),) int64.

    Sample i has class i mod `classes`, or `label` if there is one. Returns no arguments for an
    unconditional generator.
    """
    if classes is None:
        return ()
    if label is not None:
        return (torch.full((len(rows),), label),)
    return (torch.arange(rows.start, rows.stop) % classes,)


def seed_labels(
    seeds: Sequence[int], classes: int | None, label: int | None = None
) -> tuple[Tensor, ...]:
    """Return the class of each seed's image: seed mod `classes`, or `label`; see `sample_labels`.

    It depends on the seed alone, and not on its place in a list.
    """
    if classes is None or label is not None:
        return sample_labels(range(len(seeds)), classes, label)
    return (torch.tensor([seed % classes for seed in seeds], dtype=torch.int64),)


def mix(rows: Tensor, columns: Tensor, distribution: str) -> Tensor:
    """Return the latents half way between each of `rows` (R, dim) and each of `columns` (C, dim).

    (R · C, dim), row by row. The numbers of a latent have no meaning of their own in a GAN that has
    only one, so that exchanging some of them, as StyleGAN mixes the styles of its layers, would not
    exchange coarse and fine features. Half way between two normal latents is a normal latent again,
    which a line would not give: see `slerp`.
    """
    half = torch.tensor(0.5, device=rows.device)
    ends = rows.repeat_interleave(len(columns), 0), columns.repeat(len(rows), 1)
    return interpolation(distribution)(*ends, half)


def to_pixels(images: Tensor, bits: int = 8) -> Tensor:
    """Convert images in [-1, 1] to pixels 0 … 2^bits - 1, rounded to nearest, in host memory.

    They are uint8, or uint16 for 16 bits.
    """
    most = 2**bits - 1
    dtype = torch.uint8 if bits == 8 else torch.uint16
    pixels: Tensor = ((images.float() + 1) * (most / 2)).round_().clamp_(0, most)
    return pixels.to("cpu", dtype)


def from_pixels(pixels: Tensor) -> Tensor:
    """Convert uint8 or uint16 pixels to images in [-1, 1], float32, on the same device.

    Images that are not pixels but are in [-1, 1] already stay as they are.
    """
    if pixels.is_floating_point():
        return pixels
    most = torch.iinfo(pixels.dtype).max
    # Few kernels take uint16, but all devices convert it.
    values = pixels if pixels.dtype == torch.uint8 else pixels.float()
    images: Tensor = (values / (most / 2)).sub_(1)
    return images


def run_generator(generator: nn.Module, latents: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
    """Return the images (N, C, H, W) of latents (N, dim), on the latents' device.

    `labels` holds the classes (N,) of a conditional generator, and nothing for another.
    """
    images: Tensor = generator(latents, *(label.to(latents.device) for label in labels))
    return images


@torch.no_grad()
def images_of(
    generator: nn.Module, latents: Tensor, labels: tuple[Tensor, ...], bits: int = 8
) -> Tensor:
    """Return images (N, C, H, W), uint8 or uint16, in host memory: see `run_generator`.

    Raises `NotFiniteError` if a pixel is NaN or infinite, because a NaN would look black in uint8.
    """
    images = run_generator(generator, latents, labels)
    if not torch.isfinite(images).all():
        raise NotFiniteError
    return to_pixels(images, bits)


def generate_from(
    generator: nn.Module,
    latents: Tensor,
    labels: tuple[Tensor, ...],
    batch_size: int,
    bits: int = 8,
) -> Iterator[Tensor]:
    """Yield the images of latents (N, dim), as `generate` does; `labels` as in `run_generator`."""
    yield from generate(
        generator,
        lambda rows: latents[rows.start : rows.stop],
        lambda rows: tuple(label[rows.start : rows.stop] for label in labels),
        range(len(latents)),
        batch_size,
        bits,
    )


def generate(
    generator: nn.Module,
    latents: Callable[[range], Tensor],
    labels: Callable[[range], tuple[Tensor, ...]],
    rows: range,
    batch_size: int,
    bits: int = 8,
) -> Iterator[Tensor]:
    """Yield the samples with numbers `rows`, in batches (N, C, H, W) in host memory.

    They are uint8, or uint16 for 16 bits.

    `latents(rows)` returns the latents of some rows, on the generator's device, and `labels(rows)`
    their classes, or no arguments. Raises `NotFiniteError` as `images_of` does.
    """
    for start in range(rows.start, rows.stop, batch_size):
        part = range(start, min(start + batch_size, rows.stop))
        yield images_of(generator, latents(part), labels(part), bits)
