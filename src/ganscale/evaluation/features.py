"""A small classifier trained on the set's own labels, whose last hidden layer is the features.

It stands in where Inception is too large for the images (28-pixel digits) or its weights cannot
be had. Its scores compare runs on the same set; they are no Inception FID.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganscale.data.order import Order
from ganscale.data.reader import Reader
from ganscale.randomness import torch_seed

FEATURES = 128
BATCH_SIZE = 128
EPOCHS = 3
LEAST_STEPS, MOST_STEPS = 300, 3000
HELD_OUT = 10  # every tenth sample judges the classifier


class Classifier(nn.Module):
    """Uint8 images (N, C, H, W) to features (N, 128); `classify` goes on to class logits."""

    num_features = FEATURES  # torchmetrics asks for it

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
            *layers, nn.Flatten(), nn.Linear(channels * side * side, FEATURES), nn.ReLU()
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Features."""
        features: Tensor = self.body(images.float() / 127.5 - 1)
        return features

    def classify(self, images: Tensor) -> Tensor:
        """Class logits."""
        logits: Tensor = self.head(self(images))
        return logits


def train_classifier(
    reader: Reader,
    order: Order,
    image_shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
    report: Callable[[str], None],
) -> Classifier:
    """Train on nine tenths of the set; reports the accuracy on the rest."""
    steps = min(max(EPOCHS * order.samples // BATCH_SIZE, LEAST_STEPS), MOST_STEPS)
    report(f"training the feature classifier on the set's {classes} classes, {steps:,} steps")
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(0, "classifier"))
        classifier = Classifier(image_shape, classes).to(device)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for k in range(steps):
        indices = order.batch(k, BATCH_SIZE)
        images, labels = reader.read(indices[indices % HELD_OUT != 0])
        loss = F.cross_entropy(classifier.classify(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    classifier.eval().requires_grad_(False)
    held_out = reader.read(np.arange(0, order.samples, HELD_OUT)[:5000])
    right = 0
    for images, labels in zip(held_out.images.split(500), held_out.labels.split(500), strict=True):
        predicted = classifier.classify(images.to(device)).argmax(1).cpu()
        right += int((predicted == labels).sum())
    report(f"feature classifier: {right / len(held_out.labels):.1%} right on held-out images")
    return classifier
