"""Feature networks, by whose features and logits images are compared, and their registry.

To add a feature network, write a file in this folder, or name a class in a file of your own in the
experiment: `evaluation.features: my_features.py:MyFeatures`.
"""

import hashlib
import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganscale.config import Evaluation, Experiment
from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.readers import Reader
from ganscale.evaluation.feature_cache import Cache
from ganscale.registry import Registry, is_subclass_of

log = logging.getLogger("ganscale")


class Features(NamedTuple):
    """The features and logits of a batch of images."""

    features: Tensor
    """(N, width), float32."""
    logits: Tensor
    """(N, classes), float32, for the dataset's own classes or ImageNet's; (N, 0) for none."""

    def to(self, device: torch.device) -> "Features":
        """Return the same features on a device."""
        return Features(self.features.to(device), self.logits.to(device))


class Opening(NamedTuple):
    """What a feature network may be built from."""

    experiment: Experiment
    images: ImageSet
    reader: Reader
    device: torch.device
    cache: Cache
    """Where the network may keep weights that it has trained."""


class FeatureNetwork(ABC):
    """Computes the features of uint8 or uint16 images (N, C, H, W)."""

    key: str
    """The network's name in file names; by default, the name of its class."""
    knows_the_classes: bool = False
    """True if its logits are for the dataset's own classes."""
    classifies: bool = True
    """True if it has logits; otherwise, `Features.logits` has the shape (N, 0)."""
    measures_unrounded: bool = False
    """True if it also measures images in [-1, 1], float32, that are not rounded to pixels."""

    def __init_subclass__(cls, **more: Any):
        super().__init_subclass__(**more)
        cls.key = cls.__dict__.get("key", cls.__name__)

    @classmethod
    def open(cls, opening: Opening) -> "FeatureNetwork":
        """Return the network, ready to measure. All ranks must call this."""
        return cls()

    @property
    def description(self) -> str:
        """The network's name for people, and how far its features can be trusted."""
        return f"{self.key} features"

    @cached_property
    def checksum(self) -> str:
        """The SHA-256 of its weights, because features of other weights are not comparable.

        By default, it is that of the file that defines the class.
        """
        return hashlib.sha256(Path(inspect.getfile(type(self))).read_bytes()).hexdigest()

    @abstractmethod
    def measure(self, images: Tensor) -> Features:
        """Return features and logits, on the images' device."""


FEATURES = Registry[type[FeatureNetwork]](
    "feature network",
    "ganscale.features",
    wanted="a class derived from ganscale.evaluation.features.network.FeatureNetwork",
    accepts=is_subclass_of(FeatureNetwork),
    modules=(  # to show what is trained on the dataset first, and then what papers use
        "ganscale.evaluation.features.classifier",
        "ganscale.evaluation.features.rotations",
        "ganscale.evaluation.features.inception",
        "ganscale.evaluation.features.dinov2",
        "ganscale.evaluation.features.clip",
        "ganscale.evaluation.features",
    ),
)


def measure(network: FeatureNetwork, images: Tensor, device: torch.device) -> Features:
    """Measure pixels (N, C, H, W), uint8 or uint16, in full float32 on `device`."""
    with full_float32():
        return network.measure(images.to(device))


@contextmanager
def full_float32() -> Iterator[None]:
    """Disable TensorFloat-32 in the body, so that scores do not depend on the run's precision."""
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
    """Open the network that the experiment's `evaluation.features` names."""
    name = choose_features(experiment.evaluation, images)
    return FEATURES.get(name).open(Opening(experiment, images, reader, device, cache))


def choose_features(evaluation: Evaluation, images: ImageSet) -> str:
    """Return the name of the feature network, which `auto` chooses by the dataset alone.

    Scores thus keep their meaning over a run, whatever can be downloaded where it continues.
    """
    if evaluation.features != "auto":
        return evaluation.features
    chosen, why = "classifier", "there are labels"
    if len(images.classes) < 2:
        chosen, why = "rotations", "there are no labels"
    log.info("evaluation.features=auto: %s, because %s in %s", chosen, why, images.description)
    return chosen
