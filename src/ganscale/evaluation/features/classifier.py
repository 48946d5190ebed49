"""A small classifier trained on the set's own labels, whose last hidden layer is the features.

It stands in where Inception is too large for the images (28-pixel digits) or its weights cannot
be had. Its scores compare runs on the same set; they are no Inception FID.
"""

import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.order import Order
from ganscale.data.reading.readers import Batch, Reader
from ganscale.engines.distributed import Tensors, tensors_from_rank_0
from ganscale.errors import GanscaleError
from ganscale.evaluation.feature_cache import Cache
from ganscale.evaluation.features.network import (
    FEATURES,
    FeatureNetwork,
    Features,
    Opening,
    compute_checksum,
)
from ganscale.gan.augment import shift
from ganscale.monitoring.progress import tracked
from ganscale.randomness import torch_seed, uniform

WIDTH = 128  # features of an image
BATCH_SIZE = 128
EPOCHS = (3, 12)  # the longer training where the shorter does not reach `GOOD`
MIN_STEPS, MAX_STEPS = 300, 6000
GOOD = 0.95  # accuracy
HELD_OUT = 10  # every tenth sample judges the classifier

log = logging.getLogger("ganscale")


@FEATURES.register("classifier")
class Classifier(nn.Module, FeatureNetwork):
    """Uint8 images (N, C, H, W) to features (N, 128) and class logits."""

    key = "classifier"
    knows_the_set = True
    accuracy: Tensor

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, side, _ = image_shape
        layers: list[nn.Module] = []
        width = 32
        while side > 4:
            layers += [
                nn.Conv2d(channels, width, 3, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels, width, side = width, min(2 * width, 256), -(-side // 2)
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * side * side, WIDTH), nn.ReLU()
        )
        self.head = nn.Linear(WIDTH, classes)
        self.register_buffer("accuracy", torch.zeros(()))

    @classmethod
    def open(cls, opening: Opening) -> "Classifier":
        """Return the classifier of the dataset; raise `GanscaleError` where it has no classes."""
        experiment, images, reader, device, cache = opening
        if len(images.classes) < 2:
            raise GanscaleError(
                f"evaluation.features=classifier: {experiment.data.path} has no labels; pack it "
                "from class folders, or set evaluation.features=inception",
                every_rank=True,
            )
        return cached_classifier(reader, images.order_of_all(), images, device, cache)

    @property
    def description(self) -> str:
        """With the share of held-out images that it classifies rightly."""
        return f"classifier features ({100 * float(self.accuracy):.1f} % right)"

    def forward(self, images: Tensor) -> Tensor:
        """Features."""
        features: Tensor = self.body(images.float() / 127.5 - 1)
        return features

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Features and the set's class logits."""
        features = self(images)
        return Features(features, self.head(features))


def cached_classifier(
    reader: Reader, order: Order, images: ImageSet, device: torch.device, cache: Cache
) -> Classifier:
    """The set's classifier on every rank; rank 0 trains it where its cache has none."""
    shape, classes = images.image_shape, len(images.classes)

    def find() -> Tensors:
        found = cache.read(Classifier.key)
        if found is None:
            trained = train_classifier(reader, order, shape, classes, device)
            found = cache.write(Classifier.key, trained.state_dict())
        return found

    weights = tensors_from_rank_0(find, device)
    assert weights is not None
    classifier = Classifier(shape, classes)
    classifier.load_state_dict(weights)
    classifier.checksum = compute_checksum(weights)
    return classifier.to(device).eval().requires_grad_(False)


def train_classifier(
    reader: Reader,
    order: Order,
    image_shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
) -> Classifier:
    """Train on nine tenths of the set; the rest gives its `accuracy`."""
    for epochs in EPOCHS:
        steps = min(max(epochs * order.samples // BATCH_SIZE, MIN_STEPS), MAX_STEPS)
        log.info("training the feature classifier on %d classes, %s steps", classes, f"{steps:,}")
        classifier = _train(reader, order, steps, image_shape, classes, device)
        accuracy = _accuracy(classifier, reader, order.samples, device)
        classifier.accuracy.fill_(accuracy)
        log.info("feature classifier: %.1f %% right on held-out images", 100 * accuracy)
        if accuracy >= GOOD:
            break
    return classifier


def _train(
    reader: Reader,
    order: Order,
    steps: int,
    image_shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
) -> Classifier:
    """AdamW with one cycle of the learning rate, on slightly shifted images."""
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(0, "classifier"))
        classifier = Classifier(image_shape, classes).to(device)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for k in tracked(range(steps), steps, "feature classifier"):
        indices = order.batch(k, BATCH_SIZE)
        images, labels = _labelled(reader.read(indices[indices % HELD_OUT != 0]))
        if len(labels) < 2:  # BatchNorm needs two
            continue
        logits = classifier.head(classifier(_shifted(images, k).to(device)))
        loss = F.cross_entropy(logits, labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def _shifted(images: Tensor, step: int) -> Tensor:
    """Moved by up to an eighth of the side, so that the whole set is not learnt by heart."""

    def random(shape: tuple[int, ...]) -> Tensor:
        return uniform(0, "classifier/shift", step, range(len(images)), shape)

    return shift(images, random)


def _accuracy(classifier: Classifier, reader: Reader, samples: int, device: torch.device) -> float:
    """The share of held-out images whose class is found."""
    held_out = _labelled(reader.read(np.arange(0, samples, HELD_OUT)[:5000]))
    right = 0
    for images, labels in zip(held_out.images.split(500), held_out.labels.split(500), strict=True):
        predicted = classifier.measure(images.to(device)).logits.argmax(1).cpu()
        right += int((predicted == labels).sum())
    return right / max(len(held_out.labels), 1)


def _labelled(batch: Batch) -> Batch:
    """Those that have a class."""
    chosen = batch.labels >= 0
    return Batch(batch.images[chosen.to(batch.images.device)], batch.labels[chosen])
