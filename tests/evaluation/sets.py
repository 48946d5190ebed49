"""Sets that differ from the digits in one thing."""

import shutil
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from ganscale.data.packing.pack import pack
from ganscale.data.packing.shard_writer import Packing
from ganscale.data.packing.sources import ArraySource
from ganscale.data.shards.manifest import load_manifest


def part_of(digits: Path, folder: Path, shards: list[int]) -> Path:
    """Some shards of a packed set, as a set of their own."""
    shutil.copytree(digits, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    manifest = load_manifest(folder)
    chosen = tuple(manifest.shards[i] for i in shards)
    manifest.model_copy(update={"shards": chosen}).save(folder)
    return folder


def packed(folder: Path, images: np.ndarray, labels: np.ndarray, classes: int) -> Path:
    """Some digits with these labels; -1 for none."""
    names = tuple(map(str, range(classes)))
    source = ArraySource("some digits", images, labels, names)
    pack(source, folder, Packing(size=28, samples_per_shard=300), 1, lambda *_: None)
    return folder


def uneven(folder: Path) -> Path:
    """Zeros, ones and twos, of which ones are rare, and a tenth of all without a label."""
    images, labels = digit_arrays()
    chosen = np.flatnonzero((labels == 0) | (labels == 2) | ((labels == 1) & (rank(labels) < 40)))
    images, labels = images[chosen], labels[chosen].copy()
    labels[::10] = -1
    return packed(folder, images, labels, 3)


def digit_arrays() -> tuple[np.ndarray, np.ndarray]:
    """All digits, and what they are."""
    digits = load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target


def rank(labels: np.ndarray) -> np.ndarray:
    """How many of its class come before each sample."""
    order = np.zeros(len(labels), dtype=int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order[members] = np.arange(len(members))
    return order
