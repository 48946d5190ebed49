"""A small classifier trained on the dataset's own labels; its last hidden layer is the features.

It replaces Inception if that is too large for the images (28-pixel digits) or not available. Its
scores compare runs on the same dataset; they are not comparable with Inception's FID.
"""

import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganscale.data.reading.image_set import ImageSet
from ganscale.data.reading.order import Order
from ganscale.data.reading.readers import Batch, Reader, as_supported
from ganscale.engines.adam import EagerAdam
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
from ganscale.gan.sampling import from_pixels
from ganscale.monitoring.progress import tracked
from ganscale.randomness import torch_seed, uniform

WIDTH = 128  # features per image
BATCH_SIZE = 128
EPOCHS = (3, 12)  # train for longer if the first training does not reach `GOOD_ACCURACY`
MIN_STEPS, MAX_STEPS = 300, 6000
GOOD_ACCURACY = 0.95
HELD_OUT = 10  # every tenth sample is held out to measure the accuracy

log = logging.getLogger("ganscale")


@FEATURES.register("classifier")
class Classifier(nn.Module, FeatureNetwork):
    """Maps pixels (N, C, H, W) to features (N, 128) and class logits (N, classes)."""

    key = "classifier"
    knows_the_classes = True
    accuracy: Tensor

    def __init__(self, image_shape: tuple[int, int, int], classes: int):
        super().__init__()
        channels, height, across = image_shape
        layers: list[nn.Module] = []
        width = 32
        while max(height, across) > 4:
            layers += [
                nn.Conv2d(channels, width, 3, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels, width = width, min(2 * width, 256)
            height, across = -(-height // 2), -(-across // 2)
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * height * across, WIDTH), nn.ReLU()
        )
        self.head = nn.Linear(WIDTH, classes)
        self.register_buffer("accuracy", torch.zeros(()))

    @classmethod
    def open(cls, opening: Opening) -> "Classifier":
        """Return the dataset's classifier; raise `GanscaleError` for fewer than two classes."""
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
        """The network's name, with the share of held-out images that it classifies correctly."""
        return f"classifier features ({100 * float(self.accuracy):.1f} % right)"

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of uint8 or uint16 images."""
        features: Tensor = self.body(from_pixels(images))
        return features

    @torch.no_grad()
    def measure(self, images: Tensor) -> Features:
        """Return the features, and logits for the dataset's own classes."""
        features = self(images)
        return Features(features, self.head(features))


def cached_classifier(
    reader: Reader, order: Order, images: ImageSet, device: torch.device, cache: Cache
) -> Classifier:
    """Return the dataset's classifier on every rank; rank 0 trains it if it is not in the cache."""
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
    """Train on nine tenths of the dataset, and measure `accuracy` on the rest."""
    lengths = (epochs * order.samples // BATCH_SIZE for epochs in EPOCHS)
    for steps in dict.fromkeys(min(max(length, MIN_STEPS), MAX_STEPS) for length in lengths):
        log.info("training the feature classifier on %d classes, %s steps", classes, f"{steps:,}")
        classifier = _train(reader, order, steps, image_shape, classes, device)
        accuracy = _accuracy(classifier, reader, order.samples, device)
        classifier.accuracy.fill_(accuracy)
        log.info("feature classifier: %.1f %% right on held-out images", 100 * accuracy)
        if accuracy >= GOOD_ACCURACY:
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
    """Train with AdamW and one cycle of the learning rate, on slightly shifted images."""
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(0, "classifier"))
        classifier = Classifier(image_shape, classes).to(device)
    optimizer = EagerAdam(
        classifier.parameters(), lr=2e-3, weight_decay=1e-2, decoupled_weight_decay=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for k in tracked(range(steps), steps, "feature classifier"):
        indices = order.batch(k, BATCH_SIZE)
        images, labels = _labelled(reader.read(indices[indices % HELD_OUT != 0]))
        if len(labels) < 2:  # BatchNorm needs at least two images
            continue
        logits = classifier.head(classifier(_shift(images, k).to(device)))
        loss = F.cross_entropy(logits, labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def _shift(images: Tensor, step: int) -> Tensor:
    """Shift images by up to an eighth of their side, so that the classifier does not overfit."""

    def random(shape: tuple[int, ...]) -> Tensor:
        return uniform(0, "classifier/shift", step, range(len(images)), shape, images.device)

    return shift(as_supported(images), random).view(images.dtype)


def _accuracy(classifier: Classifier, reader: Reader, samples: int, device: torch.device) -> float:
    """Return the share of held-out images that are classified correctly."""
    held_out = _labelled(reader.read(np.arange(0, samples, HELD_OUT)[:5000]))
    right = 0
    for images, labels in zip(held_out.images.split(500), held_out.labels.split(500), strict=True):
        predicted = classifier.measure(images.to(device)).logits.argmax(1).cpu()
        right += int((predicted == labels).sum())
    return right / max(len(held_out.labels), 1)


def _labelled(batch: Batch) -> Batch:
    """Return the samples that have a label."""
    chosen = batch.labels >= 0
    images = as_supported(batch.images)[chosen.to(batch.images.device)]
    return Batch(images.view(batch.images.dtype), batch.labels[chosen])
