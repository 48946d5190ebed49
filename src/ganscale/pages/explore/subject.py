"""What the page explores: the one interface between the page and whatever makes the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Shown = NDArray[np.uint8]
Labels = NDArray[Any]


class CannotShowError(Exception):
    """The error that something cannot be shown; its text is a sentence for the page."""


@dataclass(frozen=True)
class Facts:
    """What the page has to know of a generator."""

    name: str
    what: str
    """What it is, in a few words under the name."""
    dim: int
    """Length of a latent."""
    distribution: str
    """Distribution of the latents: `normal`, or `uniform` on [-1, 1]."""
    classes: int | None
    """Number of classes; None for an unconditional generator."""
    class_names: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers; empty if they are not known."""
    mixes_classes: bool = False
    weights: tuple[str, ...] = ()
    """Which weights there are to choose from, as `ganscale sample --weights` calls them."""
    truncates: bool = True
    judges: bool = False
    """True if it has a discriminator and the real images."""
    command: str = ""
    """The command that makes the image of a seed again, without the seed."""
    absent: tuple[str, ...] = ()
    """A sentence for each thing that the page cannot offer, and why."""

    def class_name(self, label: int) -> str:
        """Return how the page calls a class."""
        name = self.class_names[label] if label < len(self.class_names) else str(label)
        return name if name == str(label) else f"{label} · {name}"


@dataclass(frozen=True)
class Choice:
    """Which weights make the images, and from which latents."""

    checkpoint: str = ""
    """The checkpoint's name; empty where there is nothing to choose."""
    weights: str = "ema"
    truncation: float | None = None


class Subject(Protocol):
    """A generator that the page explores.

    Its methods raise `CannotShowError` with a sentence for the page.
    """

    @property
    def facts(self) -> Facts:
        """What the page has to know of it."""

    def checkpoints(self) -> Sequence[str]:
        """Return the names of the checkpoints there are now, the oldest first."""

    def generate(self, latents: Floats, labels: Labels | None, choice: Choice) -> Shown:
        """Return the images of latents (N, dim): uint8 (N, H, W, 1 or 3).

        The latents are truncated already. `labels` holds the classes (N,) int64, or a share of each
        class (N, classes) float32; it is None for an unconditional generator.
        """

    def logit(self, latents: Floats, labels: Labels | None, choice: Choice) -> float:
        """Return the discriminator's logit for the image of one latent (1, dim)."""

    def neighbours(self, latents: Floats, labels: Labels | None, choice: Choice) -> Shown:
        """Return the real images nearest to that of one latent, the nearest first."""
