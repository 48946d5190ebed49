"""The page's generator from a folder that `ganscale export --format pretrained` wrote."""

from collections.abc import Sequence
from pathlib import Path

import torch

from ganscale.errors import GanscaleError
from ganscale.evaluation.samples import pixels
from ganscale.library.generator import Generator
from ganscale.monitoring.grids import show
from ganscale.pages.explore.subject import (
    CannotShowError,
    Choice,
    Facts,
    Floats,
    Labels,
    Shown,
)
from ganscale.runs.graph import Graph
from ganscale.runs.pretrained import About

NO_STATISTICS = (
    "No truncation: this generator has BatchNorm, and its statistics for truncated latents cannot "
    "be computed from an exported one. Explore the run itself instead."
)
NO_MIXING = (
    "No mixing of classes: this generator's network takes a class only by its number, and nothing "
    "lies between two numbers."
)
NO_DISCRIMINATOR = (
    "No checkpoints, real neighbours or logits: an exported folder holds a generator alone."
)


class SavedSubject:
    """A generator that was exported. Nothing in its folder is code."""

    def __init__(self, folder: Path):
        self._generator = Generator.from_pretrained(folder)
        about, network = self._generator.about, self._generator.network
        truncates = not (isinstance(network, Graph) and network.has_batch_norm)
        absent = [NO_DISCRIMINATOR] + ([] if truncates else [NO_STATISTICS])
        absent += [] if about.classes is None or self._generator.mixes_classes else [NO_MIXING]
        self.facts = Facts(
            name=about.name,
            what=f"An exported generator of {describe_images(about)}",
            dim=about.dim,
            distribution=about.distribution,
            classes=about.classes,
            mixes_classes=self._generator.mixes_classes,
            truncates=truncates,
            absent=tuple(absent),
        )

    def checkpoints(self) -> Sequence[str]:
        """Return no names: there is one generator."""
        return ()

    def generate(self, latents: Floats, labels: Labels | None, choice: Choice) -> Shown:
        """Return the images: see `Subject.generate`."""
        return generate_shown(self._generator, latents, labels, choice)

    def logit(self, latents: Floats, labels: Labels | None, choice: Choice) -> float:
        """Refuse: there is no discriminator."""
        raise CannotShowError(NO_DISCRIMINATOR)

    def neighbours(self, latents: Floats, labels: Labels | None, choice: Choice) -> Shown:
        """Refuse: there is no dataset."""
        raise CannotShowError(NO_DISCRIMINATOR)


def describe_images(about: About) -> str:
    """Say what a generator makes: `28×28 images of 10 classes`."""
    channels, height, width = about.image_shape
    more = f" with {channels} channels" if channels not in (1, 3) else ""
    more += " in 16 bits" if about.bits == 16 else ""
    of = f" of {about.classes:,} classes" if about.classes else ""
    return f"{height}×{width} images{more}{of}"


def generate_shown(
    generator: Generator, latents: Floats, labels: Labels | None, choice: Choice
) -> Shown:
    """Return a generator's images as a screen shows them: see `Subject.generate`."""
    tensors = [torch.from_numpy(array) for array in (latents, labels) if array is not None]
    try:
        images = generator.images(*tensors, truncation=choice.truncation)
    except GanscaleError as error:
        raise CannotShowError(str(error)) from None
    return show(pixels(images))
