"""What the page shows for what is chosen on it: latents and classes in, images out."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ganscale.pages.explore.latents import between, draw_latents, truncate
from ganscale.pages.explore.subject import (
    CannotShowError,
    Choice,
    Facts,
    Floats,
    Labels,
    Shown,
    Subject,
)

MOST_IMAGES = 144
MOST_STATIONS = 12
MOST_ROWS = 12
MOST_SEED = 10**18 - 1  # what `ganscale sample --seeds` takes
FRAMES_PER_LEG = 24


@dataclass(frozen=True)
class Condition:
    """Which class the images have."""

    label: int | None = None
    """One class for all; None for each seed's own, its number mod the number of classes."""
    other: int | None = None
    """A class to mix in."""
    share: float = 0.0
    """How much of the other class, 0 … 1."""

    @property
    def mixes(self) -> bool:
        """True if the images have two classes."""
        return self.other is not None and self.share > 0

    def labels(self, seeds: Sequence[int], classes: int | None) -> Labels | None:
        """Return what a generator takes as labels: see `Subject.generate`."""
        if classes is None:
            return None
        label = self.label
        own = np.array([seed % classes if label is None else label for seed in seeds], np.int64)
        if self.other is None or not self.mixes:
            return own
        shares = np.zeros((len(seeds), classes), np.float32)
        shares[np.arange(len(seeds)), own] += 1 - self.share
        shares[:, self.other] += self.share
        return shares

    def describe(self, seed: int, facts: Facts) -> str:
        """Say which class the image of a seed has; nothing without classes."""
        if facts.classes is None:
            return ""
        own = facts.class_name(seed % facts.classes if self.label is None else self.label)
        if self.other is None or not self.mixes:
            return f"class {own}"
        rest = round(100 * self.share)
        return f"{100 - rest} % class {own}, {rest} % class {facts.class_name(self.other)}"


def read_seeds(text: str, least: int = 2) -> list[int]:
    """Return the seeds in a text such as `3, 7, 10-12`."""
    seeds: list[int] = []
    for part in re.split(r"[,;\s]+", text.strip().strip(",;")):
        ends = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", part)
        if ends is None:
            raise CannotShowError("Write the seeds as whole numbers, such as 3, 7, 10-12.")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if last < first or last - first > MOST_STATIONS:
            raise CannotShowError(f"The range {part} must go up, through {MOST_STATIONS} at most.")
        seeds += range(first, last + 1)
    if not least <= len(seeds) <= MOST_STATIONS:
        raise CannotShowError(f"A walk takes {least} to {MOST_STATIONS} seeds.")
    return seeds


def seeds_from(first: float | None, number: int) -> range:
    """Return the seeds of a grid."""
    if first is None or not 0 <= first <= MOST_SEED - MOST_IMAGES:
        raise CannotShowError("The first seed must be a whole number from 0.")
    return range(int(first), int(first) + number)


def latents_of(facts: Facts, seeds: Sequence[int], truncation: float | None) -> Floats:
    """Return the latents of some seeds, truncated."""
    drawn = draw_latents(seeds, facts.dim, facts.distribution)
    return truncate(drawn, truncation, facts.distribution)


def images_of_seeds(
    subject: Subject, seeds: Sequence[int], condition: Condition, choice: Choice
) -> Shown:
    """Return one image for each seed, as `ganscale sample --seeds` does."""
    latents = latents_of(subject.facts, seeds, choice.truncation)
    return subject.generate(latents, condition.labels(seeds, subject.facts.classes), choice)


def walk_image(
    subject: Subject, seeds: Sequence[int], position: float, condition: Condition, choice: Choice
) -> Shown:
    """Return the image (1, H, W, C) at a position on the way through the seeds, from 0."""
    latents = _on_the_way(subject.facts, seeds, [position], choice.truncation)
    return subject.generate(latents, _labels_of_walk(subject, seeds, 1, condition), choice)


def walk_frames(
    subject: Subject, seeds: Sequence[int], condition: Condition, choice: Choice
) -> Shown:
    """Return a film's frames on the way through all seeds and back to the first."""
    loop = [*seeds, seeds[0]]
    positions = [i / FRAMES_PER_LEG for i in range(FRAMES_PER_LEG * len(seeds))]
    latents = _on_the_way(subject.facts, loop, positions, choice.truncation)
    labels = _labels_of_walk(subject, seeds, len(latents), condition)
    batches = itertools.pairwise([*range(0, len(latents), 64), len(latents)])
    return np.concatenate(
        [
            subject.generate(latents[a:b], None if labels is None else labels[a:b], choice)
            for a, b in batches
        ]
    )


def rows_of_timeline(names: Sequence[str]) -> list[str]:
    """Return the checkpoints that the timeline shows: the newest, and others evenly spread."""
    if len(names) <= MOST_ROWS:
        return list(names)
    last = len(names) - 1
    return [names[round(i * last / (MOST_ROWS - 1))] for i in range(MOST_ROWS)]


def _on_the_way(
    facts: Facts, seeds: Sequence[int], positions: Sequence[float], truncation: float | None
) -> Floats:
    stations = draw_latents(seeds, facts.dim, facts.distribution)
    stations = truncate(stations, truncation, facts.distribution)
    path = []
    for position in positions:
        leg = min(max(math.floor(position), 0), len(seeds) - 2)
        ends = stations[leg : leg + 1], stations[leg + 1 : leg + 2]
        t = min(max(position - leg, 0.0), 1.0)
        # The ends themselves are a seed's image bit for bit.
        path.append(ends[int(t)] if t in (0, 1) else between(*ends, t, facts.distribution))
    return np.concatenate(path)


def _labels_of_walk(
    subject: Subject, seeds: Sequence[int], number: int, condition: Condition
) -> Labels | None:
    """A walk stays in the class of its first seed, as `ganscale sample --interpolate` does."""
    return condition.labels([seeds[0]] * number, subject.facts.classes)
