"""What an image is compared by: features, and logits, of a network that knows images.

`open_features` gives the small classifier trained on the set's own labels (`classifier.py`) or
Inception v3 (`inception.py`).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ganscale.config import Experiment
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Reader
from ganscale.errors import GanscaleError
from ganscale.evaluation.feature_cache import Cache


class Features(NamedTuple):
    """Of a batch of images."""

    features: Tensor
    """(N, width) float32."""
    logits: Tensor
    """(N, classes) float32: the set's own classes, or ImageNet's."""


class FeatureNetwork(Protocol):
    """Gives the features of uint8 images (N, C, H, W)."""

    key: str
    """Names it in file names."""
    checksum: str
    """Of its weights: features of other weights are no comparison."""
    knows_the_set: bool
    """Whether its logits are those of the set's own classes."""

    @property
    def description(self) -> str:
        """Names it to people, with how far it can be trusted."""

    def measure(self, images: Tensor) -> Features:
        """Features and logits, on the images' device."""


def measure(network: FeatureNetwork, images: Tensor, device: torch.device) -> Features:
    """Features of uint8 images (N, C, H, W), real or generated, in full float32 on `device`."""
    with _full_float32():
        return network.measure(images.to(device))


@contextmanager
def _full_float32() -> Iterator[None]:
    """Without TensorFloat-32, whatever the run trains with: runs must be comparable."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def compute_checksum(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the names, shapes, types and values of some tensors."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        array = tensors[key].cpu().contiguous().numpy()
        digest.update(f"{key} {array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def open_features(
    experiment: Experiment,
    images: ImageSet,
    reader: Reader,
    device: torch.device,
    cache: Cache,
) -> FeatureNetwork:
    """The network that the experiment's `evaluation.features` names."""
    from ganscale.evaluation.features.classifier import cached_classifier
    from ganscale.evaluation.features.inception import open_inception

    wanted, labelled = experiment.evaluation.features, len(images.classes) >= 2
    if wanted == "inception" or (wanted == "auto" and not labelled):
        weights = experiment.evaluation.inception_weights
        try:
            return open_inception(Path(weights) if weights else None, device)
        except GanscaleError as error:
            if wanted == "auto":
                raise GanscaleError(
                    f"{experiment.data.path} has no labels to train a classifier on, so that FID "
                    f"needs Inception: {error}; or leave evaluation.every empty",
                    every_rank=True,
                ) from None
            raise
    if not labelled:
        raise GanscaleError(
            f"evaluation.features=classifier: {experiment.data.path} has no labels; pack it from "
            "class folders, or set evaluation.features=inception",
            every_rank=True,
        )
    return cached_classifier(reader, images.order_of_all(), images, device, cache)
