"""Rules that choose an experiment for given images, each with its reason and its source.

A rule sees what was found of the images and what the machine has. It returns a value and a sentence
that says why, which becomes a comment in the experiment file. Sources are cited in the docstrings;
where a threshold is this project's own, the docstring says so.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

RESOLUTIONS = (32, 64, 128, 256)
ENOUGH = 0.9  # share of the images that need not be enlarged, or that have the same shape
SAME_SHAPE = 0.05  # by which the ratio of the sides may differ
MAX_QUARTERS = 12  # longer images are cut to three times their shorter side
SMALL_SET, LARGE_SET = 10_000, 50_000
LEAST_OF_CLASS = 100
MAX_CLASSES = 1_000
UNEVEN = 10
PASSES = 100
STEPS_OF_ONE_LOOK = 20


class Choice(NamedTuple):
    """A value for the experiment, and why."""

    value: Any
    reason: str


def choose_resolution(sizes: NDArray[np.int64], gpu: bool) -> Choice:
    """Return the images' resolution, from their heights and widths (N, 2).

    The shorter side is the largest that hardly enlarges any image: enlarged images teach the
    generator blur. The networks here want 4 pixels doubled, as DCGAN's (Radford et al. 2015). On a
    CPU 64 pixels are the limit: a step's arithmetic grows with the number of pixels. Where the
    images agree on a shape that is not square, the longer side keeps it, in quarters of the shorter
    one.
    """
    largest = 256 if gpu else 64
    low = int(np.quantile(sizes.min(axis=1), 1 - ENOUGH))
    fitting = [side for side in RESOLUTIONS if side <= min(low, largest)]
    side = fitting[-1] if fitting else RESOLUTIONS[0]
    why = f"nine of ten images have a shorter side of at least {low:,} pixels"
    if low < RESOLUTIONS[0]:
        why += "; most are enlarged, because the networks need 32"
    elif low > largest and not gpu:
        why += ", but a CPU is slow beyond 64"
    shapes = sizes[:, 0] / sizes[:, 1]
    shape = float(np.median(shapes))
    if (np.abs(shapes / shape - 1) < SAME_SHAPE).mean() < ENOUGH:
        return Choice(side, f"{why}; their shapes differ, and the centre square of each is used")
    quarters = min(round(4 * max(shape, 1 / shape)), MAX_QUARTERS)
    if quarters == 4:
        return Choice(side, why)
    size = [side * quarters // 4, side] if shape > 1 else [side, side * quarters // 4]
    return Choice(size, f"{why}, and nearly all are {max(shape, 1 / shape):.2f} times as long")


def choose_channels(kinds: Counter[str], grey: bool) -> Choice:
    """Return 1 if no image has colour, and 3 otherwise."""
    stored = {kind.split()[1] for kind in kinds}
    if stored and stored <= {"1", "L", "LA", "I;16", "I", "F"}:
        return Choice(1, "all images are stored in grey")
    if grey:
        return Choice(1, "the images are stored in colour, but those decoded are grey")
    return Choice(3, "the images have colour")


def choose_classes(classes: Counter[str]) -> Choice:
    """Return the number of classes to condition on, or None.

    Class labels improve a GAN's samples (Mirza and Osindero 2014; Brock et al. 2019), if each class
    has images enough to be learnt. The limit of 100 images is this project's choice, in the spirit
    of the 100-shot sets of DiffAugment (Zhao et al. 2020).
    """
    if len(classes) < 2:
        return Choice(None, "there are no class folders")
    rarest, count = min(classes.items(), key=lambda item: item[1])
    if len(classes) > MAX_CLASSES:
        return Choice(None, f"{len(classes):,} classes are too many to learn apart")
    if count < LEAST_OF_CLASS:
        return Choice(
            None,
            f"of the {len(classes)} classes, {rarest} has only {count:,} images; fewer than "
            f"{LEAST_OF_CLASS} are too few to learn a class from. To try it: classes: "
            f"{len(classes)}",
        )
    return Choice(len(classes), f"each class has at least {count:,} images")


def choose_balance(classes: Counter[str]) -> Choice:
    """Return whether to draw all classes equally often; the ratio of 10 is this project's choice.

    Class-balanced sampling is common where classes are uneven (e.g. Kang et al. 2020, "Decoupling
    representation and classifier for long-tailed recognition"). It is for a conditional GAN: one
    without classes would only see the few images of a small folder over and over.
    """
    most, least = max(classes.values()), max(1, min(classes.values()))
    if most > UNEVEN * least:
        return Choice(
            True, f"the largest class has {most / least:,.0f} times the smallest's images"
        )
    return Choice(False, "the classes are of similar size")


def choose_batch_size(images: int, resolution: int, gpu: bool) -> Choice:
    """Return the images of a step.

    DCGAN used 128 (Radford et al. 2015); beyond 64 pixels the batch shrinks as memory demands,
    which StyleGAN2-ADA's `auto` does too (Karras et al. 2020: min(4096 / resolution, 32) per GPU).
    On a CPU 32, for more steps in the same time.
    """
    size = 128 * 64 // max(64, resolution) if gpu else 32
    why = "as DCGAN's" if size == 128 else "what a GPU holds at this resolution"
    why = why if gpu else "small, for more steps in a CPU's time"
    while size > max(2, images // 2):
        size //= 2
        why = "at most half of the images"
    return Choice(size, why)


def choose_width(gpu: bool) -> Choice:
    """Return the channels of DCGAN's widest map; its authors' networks have 64."""
    return Choice(64, "DCGAN's") if gpu else Choice(32, "half of DCGAN's 64, for a CPU")


def choose_penalty_weight(resolution: int) -> Choice:
    """Return the weight of R1 and R2 at this resolution.

    A gradient by the pixels has as many parts as the image, so the weight grows with their number,
    as in StyleGAN2-ADA's heuristic (train.py: gamma = 0.0002 · resolution² / batch). The scale is
    that of `configs/folder_dcgan64.yaml`: 1 at 64 pixels. R3GAN (Huang et al. 2024) shows that the
    relativistic loss needs both penalties to converge.
    """
    weight = (resolution / 64) ** 2
    return Choice(
        weight,
        "R1 and R2 keep the relativistic loss stable (R3GAN, 2024); raise the weight if the "
        "generator's classes or colours vanish, lower it if samples stay blurred",
    )


def choose_augmentation(images: int) -> Choice:
    """Return the augmentation's policy and whether ADA steers its probability.

    Without it the discriminator learns a small set by heart. DiffAugment (Zhao et al. 2020) was
    shown on sets of a hundred to some thousands of images. ADA (Karras et al. 2020) raises the
    probability only as far as overfitting asks for it; its authors found overfitting in subsets of
    FFHQ of tens of thousands of images, and little to gain with all 140,000. The two limits are
    this project's reading of that.
    """
    policy = ["color", "translation", "cutout"]
    if images < SMALL_SET:
        return Choice(
            {"policy": policy},
            f"DiffAugment: {images:,} images are few, and the discriminator would know them by "
            "heart",
        )
    if images < LARGE_SET:
        return Choice(
            {"policy": policy, "probability": 0.0, "adaptive": {}},
            f"with {images:,} images, ADA raises the probability only when overfitting shows",
        )
    return Choice(None, f"{images:,} images are enough to do without")


def choose_ema(batch_size: int) -> Choice:
    """Return the half-life of the generator's average in images.

    StyleGAN2-ADA's `auto` takes 10,000 images for a batch of 32, in proportion (train.py).
    """
    half_life = max(1_000, batch_size * 10_000 // 32)
    return Choice(half_life, "StyleGAN2-ADA's rule, 10,000 images for a batch of 32")


def choose_steps(images: int, batch_size: int) -> Choice:
    """Return the number of steps: 100 passes over the images, from 1 to 25 million images.

    StyleGAN2-ADA trains on 25 million images (its `auto`), and DiffAugment's low-shot models, which
    learn quickly, on under a million. The 100 passes are this project's choice.
    """
    shown = min(max(PASSES * images, 1_000_000), 25_000_000)
    steps = float(f"{shown / batch_size:.2g}")
    return Choice(int(steps), f"{shown / 1e6:,.3g} million images, {shown / images:,.0f} passes")


def choose_evaluation(images: int, classes: Sequence[str], steps: int) -> Choice:
    """Return the evaluation section.

    FID's bias grows as samples get fewer, and KID has none (Bińkowski et al. 2018); small sets are
    therefore judged by KID. ADA's authors do so too for sets of a few thousand images.
    """
    best: Literal["fid", "kid"] = "kid" if images < SMALL_SET else "fid"
    section: dict[str, Any] = {
        "every": max(1, steps // STEPS_OF_ONE_LOOK),
        "samples": min(10_000, max(1_000, images)),
        "best": best,
    }
    why = (
        "by a classifier of your labels"
        if classes
        else "by a network that learns from rotations of your images, as they have no labels"
    )
    why += "; KID, because FID is biased with few images" if best == "kid" else ""
    return Choice(section, why)
