"""`ganscale project`: the latent of a picture, and how near the generator comes to it."""

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganscale import randomness
from ganscale.data.arrays import open_any, resize_any, with_channels
from ganscale.errors import GanscaleError
from ganscale.evaluation.samples import pixels
from ganscale.files import read_regular_file, refuse_special, write_output
from ganscale.gan.projection import CANDIDATES, project
from ganscale.gan.sampling import from_pixels, images_of, run_generator
from ganscale.monitoring.grids import grid
from ganscale.runs.sampler import Sampler

MAX_BYTES = 1 << 28


@dataclass(frozen=True)
class Projected:
    """What was found for a picture, as pixels (C, H, W), and beside it the yardsticks."""

    target: Tensor
    image: Tensor
    """The generator's image of the latent that was found."""
    latent: Tensor
    """(dim,), float32."""
    label: int | None
    """The class, of a conditional generator."""
    nearest: Tensor
    """The nearest of `CANDIDATES` random samples: what is reached without any search."""
    own: tuple[Tensor, Tensor]
    """A sample of the generator and its projection: what the search finds if there is an answer."""

    def __str__(self) -> str:
        found, own = describe(self.image, self.target), describe(*self.own)
        of_class = "" if self.label is None else f" as class {self.label}"
        return (
            f"{found}{of_class}; for comparison, the nearest of {CANDIDATES} random samples: "
            f"{describe(self.nearest, self.target)}; a sample of its own, projected likewise: {own}"
        )


def describe(image: Tensor, target: Tensor) -> str:
    """Return the PSNR in decibels and the RMSE in steps of 8-bit pixels, for people."""
    step = torch.iinfo(image.dtype).max / 255
    rmse = (image.double() - target.double()).square().mean().sqrt().item() / step
    psnr = f"{20 * math.log10(255 / rmse):.1f} dB" if rmse else "∞"
    return f"PSNR {psnr} (RMSE {rmse:.1f} of 255)"


def read_picture(path: Path, shape: tuple[int, int, int], bits: int = 8) -> Tensor:
    """Return a picture as the dataset's images are packed: uint8 or uint16 (C, H, W).

    Its centre is cut to the aspect ratio. Raises `GanscaleError` if it cannot be read.
    """
    channels, height, width = shape
    try:
        content = read_regular_file(path, MAX_BYTES)
        image = resize_any(with_channels(open_any(content), channels, bits), (height, width))
    except FileNotFoundError:
        raise GanscaleError(f"{path}: there is no such file; name a picture to project") from None
    except (OSError, ValueError) as error:
        raise GanscaleError(f"{path}: cannot be read as a picture ({error})") from None
    array = np.asarray(image).reshape(height, width, channels)
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


def project_picture(sampler: Sampler, target: Tensor, steps: int) -> Projected:
    """Find the latent whose image is nearest to a picture, pixels (C, H, W).

    It depends on the sampler's seed, and on its class if it has one; otherwise a conditional
    generator's classes are all among the candidates.
    """
    generator, latent = sampler.generator.requires_grad_(False), sampler.experiment.latent
    bits = sampler.bits

    def draw(purpose: str, rows: range) -> Tensor:
        return randomness.latents(latent, sampler.seed, purpose, 0, rows, sampler.device)

    def generate(latents: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        return run_generator(generator, latents, labels)

    rows = range(CANDIDATES)
    candidates = draw("projection", rows)
    labels = tuple(label.to(sampler.device) for label in sampler.labels(rows))
    own = images_of(generator, draw("projection/own", range(1)), sampler.labels(range(1)), bits)
    pictures = torch.cat([target[None], own])
    targets = from_pixels(pictures.to(sampler.device))
    found = project(
        generate, targets, candidates, labels, distribution=latent.distribution, steps=steps
    )
    images = images_of(generator, found.latents, found.labels, bits)
    first = found.nearest[:1]
    nearest = images_of(generator, candidates[first], tuple(label[first] for label in labels), bits)
    return Projected(
        target,
        images[0],
        found.latents[0].cpu(),
        int(found.labels[0][0]) if found.labels else None,
        nearest[0],
        (images[1], own[0]),
    )


def save_projected(found: Projected, path: Path) -> list[Path]:
    """Write the picture, its projection and the nearest sample side by side; and the latent.

    The latent goes into an .npz file of the same name as `latents` (1, dim), with `labels` (1,) of
    a conditional generator and `images`, uint8 or uint16 (1, H, W, C).
    """
    if path.suffix.lower() != ".png":
        raise GanscaleError(f"--out {path}: a projection must be a .png file")
    beside = path.with_suffix(".npz")
    refuse_special(path)
    refuse_special(beside)
    shown = pixels(torch.stack([found.target, found.image, found.nearest]))
    picture = io.BytesIO()
    grid(shown, columns=3).save(picture, "PNG")
    arrays: dict[str, Any] = {"latents": found.latent[None].numpy(), "images": shown[1:2]}
    if found.label is not None:
        arrays["labels"] = np.array([found.label])
    latents = io.BytesIO()
    np.savez(latents, **arrays)
    return [write_output(path, picture.getvalue()), write_output(beside, latents.getvalue())]
